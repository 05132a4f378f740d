// Holds a request against the model's signature before it is accepted, so that
// a caller's mistake never reaches a batch.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/session.h"
#include "memory/tensor.h"
#include "schedule/request.h"

namespace pyruntime {

// Threads: all calls from any.
class InputCheck {
 public:
  // `signature` must outlive it. device: on which inputs may lie beside the host's memory, and
  // outputs stay; none where the model runs on the host or on several devices.
  InputCheck(const Signature& signature, std::optional<Device> device);

  // InvalidInput names the input, what was expected and what came. *rows: of
  // dimension 0 where the model batches, else 1.
  Status operator()(const Request& request, int64_t* rows) const {
    *rows = 1;
    if (request.has_device_outputs()) {
      if (Status status = check_outputs(request); !status.ok()) return status;
    }
    for (std::size_t i = 0; i < expected_.size(); ++i) {
      const Tensor& tensor = request.inputs[i];
      if (!expected_[i].is_met_by(tensor)) return compare(request, rows);
      if (!signature_.is_batchable) continue;
      if (i != 0 && tensor.shape[0] != *rows) return compare(request, rows);
      *rows = tensor.shape[0];
    }
    return {};
  }

  // Whether inputs may lie on `device`: InvalidInput says where else.
  Status check_place(Device device) const;

 private:
  // What is quickly seen to be right: an input of which nothing but dimension 0
  // is dynamic. Of others, nothing is.
  struct Expected {
    explicit Expected(const TensorSpec& spec);

    bool is_met_by(const Tensor& tensor) const {
      if (tensor.data == nullptr || tensor.device != Device{} || tensor.type != type ||
          tensor.shape.rank() != rank) {
        return false;
      }
      for (std::size_t axis = 1; axis < rank; ++axis) {
        if (tensor.shape[axis] != dims[axis]) return false;
      }
      return tensor.shape[0] >= least_rows && tensor.shape[0] <= most_rows;
    }

    DataType type;
    std::size_t rank = 0;
    std::span<const int64_t> dims;
    int64_t least_rows = 0;
    int64_t most_rows = -1;  // whose elements can be counted
  };

  // The same, looking at everything; says what is wrong.
  Status compare(const Request& request, int64_t* rows) const;
  Status check_outputs(const Request& request) const;

  const Signature& signature_;
  const std::optional<Device> device_;
  std::vector<Expected> expected_;
};

Status unknown_input(const Signature& signature, std::string_view name);
Status unknown_output(const Signature& signature, std::string_view name);

}  // namespace pyruntime
