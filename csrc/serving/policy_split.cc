// Arms by fixed shares: canaries and A/B experiments. A key's arm is always the
// same; requests without a key are spread at random.
#include <vector>

#include "base/hash.h"
#include "serving/policy.h"
#include "serving/split_places.h"

namespace pyruntime {
namespace {

constexpr uint8_t kFirst = 0;

// Places of one pair of arms that neither has claimed yet, and then any other's.
struct Region {
  int begin;
  int end;
};

void claim(SplitPlaces& places, uint8_t arm, int share, Region region, bool from_end) {
  const int step = from_end ? kWhole - 1 : 1;
  int at = from_end ? region.end - 1 : region.begin;
  // There are as many free places as all shares need.
  for (; share > 0; at = (at + step) % kWhole) {
    if (places[at] != kFirst) continue;
    places[at] = arm;
    --share;
  }
}

std::vector<int> shares_of(const RouteSpec& spec) {
  std::vector<int> shares;
  shares.reserve(spec.arms.size());
  for (const ArmSpec& arm : spec.arms) shares.push_back(arm.share);
  return shares;
}

class SplitPolicy final : public Policy {
 public:
  explicit SplitPolicy(const RouteSpec& spec)
      : seed_(hash64(spec.salt.empty() ? spec.name : spec.salt)),
        places_(split_places(shares_of(spec))) {}

  std::size_t choose(std::string_view key, std::span<const ArmStats>,
                     Random& random) const override {
    const uint64_t hash = key.empty() ? random.next() : hash64(key, seed_);
    return places_[place_of(hash, kWhole)];
  }

 private:
  const uint64_t seed_;
  const SplitPlaces places_;
};

}  // namespace

SplitPlaces split_places(std::span<const int> shares) {
  SplitPlaces places{};
  const int others = static_cast<int>(shares.size()) - 1;
  const int regions = (others + 1) / 2;
  for (int i = 0; i < others; ++i) {
    const int number = i / 2;
    const Region region{kWhole * number / regions, kWhole * (number + 1) / regions};
    claim(places, static_cast<uint8_t>(i + 1), shares[i + 1], region, i % 2 == 1);
  }
  return places;
}

extern const PolicyEntry kSplitPolicy;
constexpr PolicyEntry kSplitPolicy{
    .name = "split",
    .has_shares = true,
    .max_arms = kMaxArms,
    .make = [](const RouteSpec& spec) -> std::unique_ptr<Policy> {
      return std::make_unique<SplitPolicy>(spec);
    },
};

}  // namespace pyruntime
