// DLPack: memory of any device between Python libraries. Its structures as of
// version 1, and the older unversioned ones (github.com/dmlc/dlpack,
// include/dlpack/dlpack.h), and tensors of ours in capsules of them.
//
// Threads: the caller holds the GIL.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include <Python.h>

#include "base/error.h"
#include "bindings/python_errors.h"
#include "memory/tensor.h"

namespace pyruntime::dlpack {

inline constexpr int32_t kCuda = 2;  // kDLCUDA

struct DLDevice {
  int32_t device_type;
  int32_t device_id;
};

struct DLDataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};

struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null: row-major and contiguous
  uint64_t byte_offset;
};

struct DLManagedTensor {
  DLTensor dl_tensor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensor* self);
};

struct DLManagedTensorVersioned {
  struct {
    uint32_t major;
    uint32_t minor;
  } version;
  void* manager_ctx;
  void (*deleter)(DLManagedTensorVersioned* self);
  uint64_t flags;
  DLTensor dl_tensor;
};

enum TypeCode : uint8_t { kInt = 0, kUint = 1, kFloat = 2, kBfloat = 4, kBool = 6 };

// By DataType; strings have none.
inline constexpr std::array<DLDataType, kDataTypeCount - 1> kDataTypes{{
    {kBool, 8, 1},
    {kUint, 8, 1},
    {kUint, 16, 1},
    {kUint, 32, 1},
    {kUint, 64, 1},
    {kInt, 8, 1},
    {kInt, 16, 1},
    {kInt, 32, 1},
    {kInt, 64, 1},
    {kFloat, 16, 1},
    {kBfloat, 16, 1},
    {kFloat, 32, 1},
    {kFloat, 64, 1},
}};

// Keeps Python's error, if one is set, from calls that may run Python.
class KeepError {
 public:
#if PY_VERSION_HEX >= 0x030C0000
  KeepError() : error_(PyErr_GetRaisedException()) {}
  ~KeepError() { PyErr_SetRaisedException(error_); }

 private:
  PyObject* const error_;
#else
  KeepError() { PyErr_Fetch(&type_, &value_, &traceback_); }
  ~KeepError() { PyErr_Restore(type_, value_, traceback_); }

 private:
  PyObject* type_ = nullptr;
  PyObject* value_ = nullptr;
  PyObject* traceback_ = nullptr;
#endif
};

// A capsule's tensor, taken over: its owner is told when this is destroyed.
class Taken {
 public:
  Taken() = default;
  Taken(const Taken&) = delete;
  Taken& operator=(const Taken&) = delete;
  ~Taken() { reset(); }

  // Throws InvalidInput where the object is no capsule of a tensor that nobody has taken yet.
  void take(PyObject* capsule) {
    if (PyCapsule_IsValid(capsule, "dltensor_versioned") != 0) {
      take_as(capsule, "dltensor_versioned", "used_dltensor_versioned", &versioned_);
      if (versioned_->version.major > 1) {
        throw Error(ErrorCode::kInvalidInput, "expected DLPack of version 1, got " +
                                                  std::to_string(versioned_->version.major));
      }
    } else if (PyCapsule_IsValid(capsule, "dltensor") != 0) {
      take_as(capsule, "dltensor", "used_dltensor", &managed_);
    } else {
      throw Error(ErrorCode::kInvalidInput, "__dlpack__ gave no DLPack capsule");
    }
  }

  // Throws InvalidInput, saying what does not fit: device, dtype, contiguity.
  void describe(Device device, Tensor* tensor) const {
    const DLTensor& from = versioned_ != nullptr ? versioned_->dl_tensor : managed_->dl_tensor;
    if (from.device.device_type != kCuda || from.device.device_id != device.index) {
      throw Error(ErrorCode::kInvalidInput, "expected memory of '" + device.name() +
                                                "', got DLPack device type " +
                                                std::to_string(from.device.device_type) +
                                                ", index " + std::to_string(from.device.device_id));
    }
    const auto type = std::ranges::find_if(kDataTypes, [&](const DLDataType& one) {
      return one.code == from.dtype.code && one.bits == from.dtype.bits &&
             one.lanes == from.dtype.lanes;
    });
    if (type == kDataTypes.end()) {
      throw Error(ErrorCode::kInvalidInput,
                  "expected a dtype of bool, integers or floats, got " +
                      std::to_string(from.dtype.lanes) + " x " + std::to_string(from.dtype.bits) +
                      " bits of DLPack type " + std::to_string(from.dtype.code));
    }
    tensor->type = static_cast<DataType>(type - kDataTypes.begin());
    tensor->device = device;
    tensor->shape = Shape(std::span<const int64_t>(from.shape, static_cast<size_t>(from.ndim)));
    tensor->data = static_cast<std::byte*>(from.data) + from.byte_offset;
    int64_t stride = 1;
    for (int axis = from.ndim - 1; from.strides != nullptr && axis >= 0; --axis) {
      if (from.shape[axis] != 1 && from.strides[axis] != stride &&
          tensor->shape.element_count() != 0) {
        throw Error(ErrorCode::kInvalidInput,
                    "expected a row-major, contiguous array, got one with strides; make it "
                    "contiguous on its device");
      }
      stride *= from.shape[axis];
    }
  }

  void reset() {
    if (managed_ == nullptr && versioned_ == nullptr) return;
    const KeepError error;
    if (auto* const tensor = std::exchange(managed_, nullptr);
        tensor != nullptr && tensor->deleter != nullptr) {
      tensor->deleter(tensor);
    }
    if (auto* const tensor = std::exchange(versioned_, nullptr);
        tensor != nullptr && tensor->deleter != nullptr) {
      tensor->deleter(tensor);
    }
  }

 private:
  template <typename Managed>
  static void take_as(PyObject* capsule, const char* name, const char* used, Managed** tensor) {
    auto* const found = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
    if (found == nullptr || PyCapsule_SetName(capsule, used) != 0) throw PythonErrorIsSet();
    *tensor = found;
  }

  DLManagedTensor* managed_ = nullptr;
  DLManagedTensorVersioned* versioned_ = nullptr;
};

// A tensor of ours that a capsule's taker owns.
template <typename Managed>
struct Given {
  explicit Given(const Tensor& of) : tensor(of), shape(of.shape) {
    if constexpr (requires { managed.version; }) managed.version = {1, 0};
    managed.manager_ctx = this;
    managed.deleter = [](Managed* self) {
      const std::unique_ptr<Given> given(static_cast<Given*>(self->manager_ctx));
    };
    DLTensor& to = managed.dl_tensor;
    to.data = tensor.data;
    to.device = {kCuda, tensor.device.index};
    to.ndim = static_cast<int32_t>(shape.rank());
    to.dtype = kDataTypes.at(static_cast<std::size_t>(tensor.type));
    to.shape = const_cast<int64_t*>(shape.data());
  }

  static PyObject* capsule(const Tensor& tensor, const char* name) {
    auto given = std::make_unique<Given>(tensor);
    PyObject* const made = PyCapsule_New(&given->managed, name, [](PyObject* self) {
      // Whoever took the tensor has renamed the capsule.
      const char* const its_name = PyCapsule_GetName(self);
      for (const char* one : {"dltensor", "dltensor_versioned"}) {
        if (its_name == nullptr || std::string_view(its_name) != one) continue;
        auto* const left = static_cast<Managed*>(PyCapsule_GetPointer(self, one));
        left->deleter(left);
      }
    });
    if (made == nullptr) throw PythonErrorIsSet();
    given.release();  // NOLINT(bugprone-unused-return-value): the capsule's now
    return made;
  }

  Managed managed{};
  const Tensor tensor;
  const Shape shape;
};

// A new capsule that keeps the memory of `tensor`, which is on CUDA.
inline PyObject* to_capsule(const Tensor& tensor, bool is_versioned) {
  if (!is_versioned) return Given<DLManagedTensor>::capsule(tensor, "dltensor");
  return Given<DLManagedTensorVersioned>::capsule(tensor, "dltensor_versioned");
}

}  // namespace pyruntime::dlpack
