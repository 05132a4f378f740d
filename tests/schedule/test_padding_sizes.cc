#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "schedule/padding_sizes.h"

namespace pyruntime {
namespace {

using Sizes = std::vector<int64_t>;

// What `lengths` cost when padded, in units of what they have.
double waste(PaddingSizes& sizes, const Sizes& lengths) {
  double padded = 0;
  double own = 0;
  for (const int64_t length : lengths) {
    padded += static_cast<double>(sizes.pad(length));
    own += static_cast<double>(length);
  }
  return padded / own;
}

}  // namespace

TEST_CASE("no size is below the length, from 1 to the largest and beyond") {
  PaddingSizes sizes({}, 0);
  for (int64_t length = 1; length <= PaddingSizes::kLargest; length += 1 + length / 50) {
    const int64_t size = sizes.pad(length);
    CHECK(size >= length);
    CHECK(size <= 2 * length);
  }
  CHECK(sizes.pad(PaddingSizes::kLargest) == PaddingSizes::kLargest);
  CHECK(sizes.pad(PaddingSizes::kLargest + 1) == PaddingSizes::kLargest + 1);
  CHECK(sizes.pad(0) == 0);
}

TEST_CASE("the next power of two serves until something is known") {
  PaddingSizes sizes({}, 0);
  CHECK(sizes.pad(5) == 8);
  CHECK(sizes.pad(17) == 32);
  CHECK(sizes.pad(32) == 32);
}

TEST_CASE("lengths of two kinds are given two sizes near theirs") {
  PaddingSizes sizes({}, 0);
  for (int i = 0; i < 64; ++i) sizes.pad(i % 2 == 0 ? 20 : 190);
  CHECK(sizes.pad(20) == 20);
  CHECK(sizes.pad(190) == 192);
  CHECK(sizes.sizes() == Sizes{20, 192});
}

TEST_CASE("few sizes serve spread lengths with little waste, and follow when lengths change") {
  PaddingSizes sizes({}, 0);
  std::mt19937 random(7);  // NOLINT: the same each time
  std::lognormal_distribution<double> spread(4.0, 0.6);
  const auto draw = [&](double factor) {
    Sizes lengths;
    for (int i = 0; i < 4000; ++i) {
      lengths.push_back(
          std::clamp<int64_t>(static_cast<int64_t>(factor * spread(random)), 1, 60000));
    }
    return lengths;
  };
  const Sizes short_ones = draw(1);
  waste(sizes, short_ones);
  const Sizes more = draw(1);
  double padded = 0;
  double own = 0;
  for (const int64_t length : more) {
    padded += static_cast<double>(std::bit_ceil(static_cast<uint64_t>(length)));
    own += static_cast<double>(length);
  }
  const double powers_of_two = padded / own;
  CHECK(powers_of_two > 1.35);
  CHECK(waste(sizes, more) < 1.26);
  CHECK(sizes.sizes().size() <= PaddingSizes::kMostSizes + 4);  // rare lengths keep their own
  for (int i = 0; i < 3; ++i) waste(sizes, draw(20));
  CHECK(waste(sizes, draw(20)) < 1.26);
}

TEST_CASE("given sizes are used as they are") {
  PaddingSizes sizes({16, 100}, 0);
  CHECK(sizes.pad(3) == 16);
  CHECK(sizes.pad(16) == 16);
  CHECK(sizes.pad(17) == 100);
  CHECK(sizes.pad(101) == 101);
  CHECK(sizes.sizes() == Sizes{16, 100});
}

TEST_CASE("no size exceeds the largest, and lengths beyond it stay as they are") {
  PaddingSizes sizes({}, 400);
  CHECK(sizes.pad(200) == 256);
  CHECK(sizes.pad(300) == 320);
  CHECK(sizes.pad(399) == 399);
  CHECK(sizes.pad(500) == 500);
}

TEST_CASE("a forbidden size is not used again, nor a larger one") {
  PaddingSizes sizes({}, 0);
  CHECK(sizes.pad(390) == 512);
  sizes.forbid(512);
  CHECK(sizes.pad(390) == 448);
  sizes.forbid(448);
  CHECK(sizes.pad(390) == 390);
  CHECK(sizes.pad(380) == 384);
  sizes.forbid(1000);
  CHECK(sizes.pad(380) == 384);
}

TEST_CASE("threads may pad while sizes are learned") {
  PaddingSizes sizes({}, 0);
  std::vector<std::thread> threads;
  std::atomic<bool> is_wrong{false};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int64_t i = 0; i < 20000; ++i) {
        const int64_t length = 1 + (i * (t + 1)) % 700;
        const int64_t size = sizes.pad(length);
        if (size < length) is_wrong = true;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_FALSE(is_wrong);
}

}  // namespace pyruntime
