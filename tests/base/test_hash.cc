#include <array>
#include <cstdlib>
#include <string>

#include <doctest/doctest.h>

#include "base/hash.h"
#include "base/random.h"

namespace pyruntime {

// As the reference implementation gives them (xxhash 4.1 for Python).
TEST_CASE("the hash is XXH64") {
  std::string bytes;
  for (int i = 0; i < 101; ++i) bytes += static_cast<char>(i * 7);
  CHECK(hash64("") == 0xEF46DB3751D8E999);
  CHECK(hash64("a") == 0xD24EC4F1A98C6E5B);
  CHECK(hash64("abc") == 0x44BC2CF5AD770999);
  CHECK(hash64("The quick brown fox jumps over the lazy dog") == 0x0B242D361FDA71BC);
  CHECK(hash64(bytes) == 0x42312F4D55D9BD17);
  CHECK(hash64(bytes, 42) == 0x1880CB2D51154FD8);
}

TEST_CASE("places are as many as asked for, in the order of the hash") {
  CHECK(place_of(0, 1000) == 0);
  CHECK(place_of(UINT64_MAX, 1000) == 999);
  CHECK(place_of(UINT64_MAX / 2, 1000) == 499);
  CHECK(place_of(UINT64_MAX, UINT32_MAX) == UINT32_MAX - 1);
  CHECK(place_of(UINT64_MAX, 1) == 0);
}

TEST_CASE("random numbers are even, and the same from the same seed") {
  Random random(7);
  Random same(7);
  std::array<int, 10> counts{};
  for (int i = 0; i < 100'000; ++i) {
    const uint32_t n = random.below(10);
    REQUIRE(n == same.below(10));
    ++counts[n];
  }
  // Six standard deviations of a binomial with p = 0.1.
  for (const int count : counts) CHECK(std::abs(count - 10'000) < 570);
  for (int i = 0; i < 1000; ++i) {
    const double u = random.uniform();
    CHECK((u >= 0 && u < 1));
  }
}

}  // namespace pyruntime
