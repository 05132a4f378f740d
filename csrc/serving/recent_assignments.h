// Which arm answered which request, of the last few: rewards come later, and
// name the request by its id.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

namespace pyruntime {

// A table of fixed size in sets of four; a new assignment takes the place of the
// oldest in its set. An id is kept as 56 bits of its hash, so of those ids that
// were never noted, one in 2^54 passes for one that was.
//
// Threads: all calls from any. Lock-free; allocates nothing.
class RecentAssignments {
 public:
  static constexpr std::size_t kCapacity = std::size_t{1} << 16;

  RecentAssignments() : sets_(new Set[kSets]) {}

  // arm: at most 254. An id that is noted again stands for its last request.
  void note(std::string_view request_id, std::size_t arm);

  // The arm that answered; nothing if it was not noted, is forgotten or was
  // taken before.
  std::optional<std::size_t> take(std::string_view request_id);

 private:
  static constexpr std::size_t kWays = 4;
  static constexpr std::size_t kSets = kCapacity / kWays;

  // Entries: 56 bits of the hash and 8 of the arm plus one; 0: none.
  struct Set {
    std::array<std::atomic<uint64_t>, kWays> entries{};
    std::atomic<uint64_t> turn{0};  // the next way to give up its entry
  };
  struct Place {
    Set& set;
    uint64_t tag;
  };

  Place place_of_id(std::string_view request_id);

  const std::unique_ptr<Set[]> sets_;
};

}  // namespace pyruntime
