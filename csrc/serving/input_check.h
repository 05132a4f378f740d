// Holds a request against the model's signature before it is accepted, so that
// a caller's mistake never reaches a batch.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "engine/session.h"
#include "schedule/request.h"

namespace pyruntime {

// InvalidInput names the input, what was expected and what came. *rows: of
// dimension 0 where the model batches, else 1.
Status check_inputs(const Signature& signature, const Request& request, int64_t* rows);

Status unknown_input(const Signature& signature, std::string_view name);
Status unknown_output(const Signature& signature, std::string_view name);

}  // namespace pyruntime
