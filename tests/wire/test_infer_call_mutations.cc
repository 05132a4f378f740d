#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "wire/infer_call_target.h"

namespace pyruntime {
namespace {

using testing::InferCallTarget;

// Rounds of each test below; PYRUNTIME_FUZZ_ROUNDS asks for more.
int rounds() {
  const char* const asked = std::getenv("PYRUNTIME_FUZZ_ROUNDS");
  return asked == nullptr ? 20'000 : std::atoi(asked);
}

// One change of a kind that breaks parsers.
void mutate(std::string& bytes, const std::vector<std::string>& others, std::mt19937_64& random) {
  const auto below = [&](std::size_t limit) { return limit == 0 ? 0 : random() % limit; };
  const std::size_t at = below(bytes.size() + 1);
  switch (random() % 8) {
    case 0:  // a bit
      if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ 1 << random() % 8);
      break;
    case 1:  // a byte
      if (at < bytes.size()) bytes[at] = static_cast<char>(random());
      break;
    case 2:  // cut off
      bytes.resize(at);
      break;
    case 3:  // taken out
      bytes.erase(at, below(8));
      break;
    case 4:  // put in
      bytes.insert(at, std::string(below(12), static_cast<char>(random())));
      break;
    case 5: {  // doubled
      const std::string piece = bytes.substr(at, below(32));
      bytes.insert(below(bytes.size() + 1), piece);
      break;
    }
    case 6: {  // from another request
      const std::string& other = others[below(others.size())];
      bytes.insert(at, other.substr(below(other.size()), below(32)));
      break;
    }
    case 7:  // a number that is too large
      bytes.insert(at, testing::varint(~uint64_t{0} >> random() % 64));
      break;
  }
}

TEST_CASE("requests to start from are served") {
  InferCallTarget target;
  for (const std::string& seed : InferCallTarget::seeds()) CHECK(target.run(seed));
}

TEST_CASE("changed requests are served or refused, and the next good one is served") {
  InferCallTarget target;
  const std::vector<std::string> seeds = InferCallTarget::seeds();
  std::mt19937_64 random(20260101);
  int served = 0;
  for (int round = 0; round < rounds(); ++round) {
    std::string bytes = seeds[random() % seeds.size()];
    for (auto changes = random() % 6 + 1; changes > 0; --changes) mutate(bytes, seeds, random);
    served += target.run(bytes) ? 1 : 0;
    if (round % 1000 == 0) REQUIRE(target.run(seeds[0]));
  }
  // Both ways are walked, else the changes teach nothing.
  CHECK(served > 0);
  CHECK(served < rounds());
}

TEST_CASE("random bytes are refused") {
  InferCallTarget target;
  std::mt19937_64 random(7);
  for (int round = 0; round < rounds(); ++round) {
    std::string bytes(random() % 256, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    CHECK_FALSE(target.run(bytes));
  }
  CHECK(target.run(InferCallTarget::seeds()[0]));
}

}  // namespace
}  // namespace pyruntime
