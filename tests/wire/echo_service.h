// An echo model behind the wire, and calls of it with everything counted.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "serving/registry.h"
#include "wire/infer_call.h"
#include "wire/request_builder.h"

namespace pyruntime::testing {

inline TensorSpec spec(std::string name, DataType type, std::vector<int64_t> dims) {
  TensorSpec made;
  made.name = std::move(name);
  made.type = type;
  made.symbols.resize(dims.size());
  made.dims = std::move(dims);
  return made;
}

struct EchoService {
  Registry registry;

  std::shared_ptr<ModelVersion> add(std::string name, std::vector<TensorSpec> inputs,
                                    int64_t version = 1, ModelOptions options = {}) {
    options.session.engine = "echo";
    options.session.echo_inputs = std::move(inputs);
    auto model = ModelVersion::load(std::move(name), version, {}, options);
    registry.add(model);
    return model;
  }

  // The response, or what went wrong. Nothing is read outside `request`, which
  // is copied so that a sanitizer sees its end.
  Status call(std::string_view request, std::string* response = nullptr) {
    const std::vector<char> exact(request.begin(), request.end());
    InferCall one(registry);
    Status status = one.decode(as_bytes({exact.data(), exact.size()}));
    if (status.ok()) status = one.infer();
    if (status.ok()) {
      std::vector<std::byte> bytes(one.response_size());
      one.encode(bytes.data());
      if (response != nullptr) {
        response->assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      }
    }
    return status;
  }
};

}  // namespace pyruntime::testing
