// How the requests to a model are spread over its versions, as it is configured.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace pyruntime {

inline constexpr int64_t kLatest = -1;
inline constexpr int kWhole = 1000;  // shares are in thousandths
inline constexpr int kMaxArms = 64;  // of one route

// Labels, and the version that each names.
using Labels = std::map<std::string, int64_t, std::less<>>;

// A version, by number or by label. Neither: the latest.
struct Target {
  int64_t version = kLatest;
  std::string label{};

  friend bool operator==(const Target&, const Target&) = default;
};

// One of the alternatives that a policy chooses from.
struct ArmSpec {
  std::string name;  // as replies and statistics call it
  Target target{};
  int share = 0;  // of requests, in thousandths; where the policy goes by shares

  friend bool operator==(const ArmSpec&, const ArmSpec&) = default;
};

// How far an element may be from what is expected: absolute + relative * |expected|.
struct Tolerance {
  double absolute = 0;
  double relative = 0;

  friend bool operator==(const Tolerance&, const Tolerance&) = default;
};

// A version that gets a copy of some requests, and whose answers are compared
// and never returned.
struct ShadowSpec {
  Target target{};
  int share = kWhole;  // of requests, in thousandths
  Tolerance tolerance{};
  std::map<std::string, Tolerance, std::less<>> outputs{};  // in its place, by output

  friend bool operator==(const ShadowSpec&, const ShadowSpec&) = default;
};

struct RouteSpec {
  std::string policy = "fixed";  // a name in the table of policies
  std::string name{};            // of the experiment; empty: none, and replies say nothing
  std::string salt{};            // of the hash of keys; empty: `name`
  double epsilon = 0.1;          // of epsilon_greedy: share of requests that explore
  // The first is what answers where another is not loaded. Of "fixed": it alone.
  std::vector<ArmSpec> arms{ArmSpec{}};
  std::optional<ShadowSpec> shadow{};

  friend bool operator==(const RouteSpec&, const RouteSpec&) = default;
};

}  // namespace pyruntime
