#include <cstddef>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "memory/size_class.h"

using pyruntime::SizeClass;

TEST_CASE("classes grow, in whole units") {
  for (unsigned i = 0; i < SizeClass::kCount; ++i) {
    CHECK(SizeClass::size_bytes(i) % SizeClass::kUnitBytes == 0);
    CHECK(SizeClass::of(SizeClass::size_bytes(i)) == i);
    if (i != 0) {
      CHECK(SizeClass::size_bytes(i) > SizeClass::size_bytes(i - 1));
      CHECK(SizeClass::of(SizeClass::size_bytes(i - 1) + 1) == i);
    }
  }
}

TEST_CASE("a size goes into the smallest class that holds it, and fills four fifths of it") {
  std::mt19937_64 random(1);
  std::vector<std::size_t> sizes{0, 1, 63, 64, 65, 256, 257, SizeClass::kMaxBytes};
  for (int i = 0; i < 10000; ++i) {
    sizes.push_back((random() >> (random() % 60)) % SizeClass::kMaxBytes);
  }
  for (const std::size_t size_bytes : sizes) {
    const unsigned size_class = SizeClass::of(size_bytes);
    REQUIRE(size_class < SizeClass::kCount);
    REQUIRE(SizeClass::size_bytes(size_class) >= size_bytes);
    if (size_class != 0) REQUIRE(SizeClass::size_bytes(size_class - 1) < size_bytes);
    if (size_bytes > 256) REQUIRE(SizeClass::size_bytes(size_class) * 4 <= size_bytes * 5 + 4 * 64);
  }
}
