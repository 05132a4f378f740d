#include <array>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "serving/policy.h"
#include "serving/split_places.h"

namespace pyruntime {
namespace {

RouteSpec spec_of(std::string policy, std::vector<int> shares) {
  RouteSpec spec;
  spec.policy = std::move(policy);
  spec.arms.clear();
  for (const int share : shares) {
    ArmSpec& arm = spec.arms.emplace_back();
    arm.name = "arm " + std::to_string(spec.arms.size());
    arm.share = share;
  }
  return spec;
}

std::vector<ArmStats> unknown_arms(std::size_t n) { return std::vector<ArmStats>(n); }

std::string key_of(int i) { return "user-" + std::to_string(i); }

// How many of `n` a binomial of probability p gives at most and at least in 99.9 % of cases.
bool is_within_interval(int count, int n, double p) {
  constexpr double kDeviations = 3.29;
  const double deviation = std::sqrt(n * p * (1 - p));
  return std::abs(count - n * p) <= kDeviations * deviation + 1;
}

std::vector<int> counted(const Policy& policy, std::size_t arms, int n, bool with_keys) {
  const auto stats = unknown_arms(arms);
  Random random(20260101);
  std::vector<int> counts(arms);
  for (int i = 0; i < n; ++i) {
    ++counts[policy.choose(with_keys ? key_of(i) : std::string(), stats, random)];
  }
  return counts;
}

int moved(const std::vector<int>& from, const std::vector<int>& to) {
  const SplitPlaces before = split_places(from);
  const SplitPlaces after = split_places(to);
  int count = 0;
  for (int i = 0; i < kWhole; ++i) count += before[i] != after[i] ? 1 : 0;
  return count;
}

// What the chosen arms' rewards lack against always choosing the best.
double regret(const std::string& policy, int requests, int delay) {
  constexpr std::array<double, 4> kMeans{0.3, 0.5, 0.45, 0.7};
  const auto chooser = make_policy(spec_of(
      policy, policy == "split" ? std::vector{250, 250, 250, 250} : std::vector{0, 0, 0, 0}));
  std::vector<ArmStats> arms(kMeans.size());
  std::vector<std::size_t> chosen;
  Random random(42);
  double lost = 0;
  for (int i = 0; i < requests; ++i) {
    const std::size_t arm = chooser->choose({}, arms, random);
    arms[arm].count_assigned();
    chosen.push_back(arm);
    lost += 0.7 - kMeans.at(arm);
    // Rewards come `delay` requests late.
    if (i >= delay) {
      const std::size_t earlier = chosen[chosen.size() - 1 - static_cast<std::size_t>(delay)];
      arms[earlier].add_reward(random.uniform() < kMeans.at(earlier) ? 1 : 0);
    }
  }
  return lost;
}

}  // namespace

TEST_CASE("shares are kept within a binomial's 99.9 % interval") {
  constexpr int kRequests = 200'000;
  for (const bool with_keys : {false, true}) {
    for (const std::vector<int>& shares : std::vector<std::vector<int>>{
             {990, 10}, {999, 1}, {500, 500}, {0, 1000}, {333, 333, 334}, {1, 2, 3, 4, 990}}) {
      const auto policy = make_policy(spec_of("split", shares));
      const auto counts = counted(*policy, shares.size(), kRequests, with_keys);
      for (std::size_t arm = 0; arm < shares.size(); ++arm) {
        CAPTURE(shares[arm]);
        CHECK(is_within_interval(counts[arm], kRequests, shares[arm] / 1000.0));
        if (shares[arm] == 0) CHECK(counts[arm] == 0);
      }
    }
  }
}

TEST_CASE("a key's arm is always the same, and another salt places keys anew") {
  const auto arms = unknown_arms(2);
  Random random(1);
  RouteSpec spec = spec_of("split", {500, 500});
  const auto policy = make_policy(spec);
  const auto same = make_policy(spec);
  spec.salt = "digits";
  const auto salted = make_policy(spec);
  int different = 0;
  for (int i = 0; i < 10'000; ++i) {
    const std::size_t arm = policy->choose(key_of(i), arms, random);
    CHECK(same->choose(key_of(i), arms, random) == arm);
    different += salted->choose(key_of(i), arms, random) != arm ? 1 : 0;
  }
  CHECK(is_within_interval(different, 10'000, 0.5));
}

// Persisted routes and other processes rely on it.
TEST_CASE("where a key goes does not change from release to release") {
  const auto arms = unknown_arms(2);
  Random random(1);
  RouteSpec spec = spec_of("split", {900, 100});
  spec.salt = "digits";
  const auto policy = make_policy(spec);
  std::string canary;
  for (int i = 0; i < 60; ++i) {
    if (policy->choose(key_of(i), arms, random) == 1) canary += std::to_string(i) + " ";
  }
  CHECK(canary == "5 11 35 40 54 ");
}

TEST_CASE("when a share changes, only that share of the places moves") {
  CHECK(moved({990, 10}, {900, 100}) == 90);
  CHECK(moved({900, 100}, {500, 500}) == 400);
  CHECK(moved({500, 500}, {0, 1000}) == 500);
  CHECK(moved({800, 100, 100}, {700, 200, 100}) == 100);
  CHECK(moved({800, 100, 100}, {650, 100, 250}) == 150);
  CHECK(moved({100, 800, 100}, {50, 850, 100}) == 50);
  CHECK(moved({700, 100, 100, 100}, {600, 200, 100, 100}) == 100);
  CHECK(moved({600, 100, 100, 100, 100}, {500, 100, 100, 100, 200}) == 100);
  // And a new arm takes from the first alone.
  CHECK(moved({1000}, {990, 10}) == 10);
}

TEST_CASE("every place has an arm, as many as its share") {
  for (const std::vector<int>& shares : std::vector<std::vector<int>>{
           {1000}, {0, 0, 1000}, {0, 500, 0, 500}, {10, 480, 510}, {0, 1, 998, 1}}) {
    std::vector<int> counts(shares.size());
    for (const uint8_t arm : split_places(shares)) ++counts[arm];
    CHECK(counts == shares);
  }
}

TEST_CASE("bandits lose less than a random split") {
  constexpr int kRequests = 5'000;
  const double random_split = regret("split", kRequests, 0);
  for (const char* const policy : {"epsilon_greedy", "ucb1", "thompson"}) {
    for (const int delay : {0, 50}) {
      CAPTURE(policy);
      CAPTURE(delay);
      CHECK(regret(policy, kRequests, delay) < 0.5 * random_split);
    }
  }
}

TEST_CASE("a bandit tries every arm before it judges") {
  for (const char* const name : {"epsilon_greedy", "ucb1"}) {
    RouteSpec spec = spec_of(name, {0, 0, 0});
    spec.epsilon = 0;
    const auto policy = make_policy(spec);
    std::vector<ArmStats> arms(3);
    Random random(3);
    std::vector<int> counts(3);
    for (int i = 0; i < 9; ++i) {
      const std::size_t arm = policy->choose({}, arms, random);
      arms[arm].count_assigned();
      ++counts[arm];
    }
    CHECK(counts == std::vector{3, 3, 3});  // no reward has come yet
  }
}

TEST_CASE("a policy that cannot be made says why") {
  const auto message_of = [](const RouteSpec& spec) {
    try {
      make_policy(spec);
    } catch (const Error& error) {
      return error.status().message();
    }
    return std::string();
  };
  CHECK(message_of(spec_of("split", {500, 400})) ==
        "route: expected shares of 1000 thousandths together, got 900");
  CHECK(message_of(spec_of("split", {})) ==
        "route: expected 1 to 64 arms for policy 'split', got 0");
  CHECK(message_of(spec_of("coin", {})).starts_with("route: expected policy 'fixed', 'split', "));
  RouteSpec twice = spec_of("split", {500, 500});
  twice.arms[1].name = twice.arms[0].name;
  CHECK(message_of(twice) == "route: arm 'arm 1' is given twice");
  RouteSpec greedy = spec_of("epsilon_greedy", {0, 0});
  greedy.epsilon = 1.5;
  CHECK(message_of(greedy).starts_with("route: epsilon: expected 0 to 1, got 1.5"));
}

}  // namespace pyruntime
