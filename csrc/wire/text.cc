#include "wire/text.h"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace pyruntime {
namespace {

bool is_continuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

// Bytes of the sequence that starts at `at`; 0 where none does (table 3-7 of
// the Unicode standard).
std::size_t sequence_length(const unsigned char* at, std::size_t left) {
  const unsigned char lead = at[0];
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (left < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if (!is_continuation(at[i])) return 0;
  }
  switch (lead) {
    case 0xE0:
      return at[1] >= 0xA0 ? length : 0;
    case 0xED:
      return at[1] < 0xA0 ? length : 0;
    case 0xF0:
      return at[1] >= 0x90 ? length : 0;
    case 0xF4:
      return at[1] < 0x90 ? length : 0;
    default:
      return length;
  }
}

}  // namespace

bool is_utf8(std::string_view text) {
  const auto* at = reinterpret_cast<const unsigned char*>(text.data());
  std::size_t left = text.size();
  while (left != 0) {
    if (left >= sizeof(uint64_t)) {
      uint64_t word;
      std::memcpy(&word, at, sizeof(word));
      if ((word & 0x8080808080808080U) == 0) {
        at += sizeof(word);
        left -= sizeof(word);
        continue;
      }
    }
    const std::size_t length = sequence_length(at, left);
    if (length == 0) return false;
    at += length;
    left -= length;
  }
  return true;
}

std::string quoted(std::string_view text) {
  constexpr std::size_t kMaxShown = 80;
  if (text.size() <= kMaxShown) return "'" + std::string(text) + "'";
  std::size_t end = kMaxShown;
  while (end > 0 && is_continuation(static_cast<unsigned char>(text[end]))) --end;
  return "'" + std::string(text.substr(0, end)) + "...'";
}

}  // namespace pyruntime
