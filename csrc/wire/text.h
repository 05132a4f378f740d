// Text that came from outside: checking it, and showing it in an error.
#pragma once

#include <string>
#include <string_view>

namespace pyruntime {

// Well-formed UTF-8 as Unicode defines it: shortest form, no surrogates.
bool is_utf8(std::string_view text);

// "'text'", cut to a length that fits into an error message. `text` is UTF-8.
std::string quoted(std::string_view text);

}  // namespace pyruntime
