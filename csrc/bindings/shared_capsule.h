// Objects of the core handed from one extension module to the other, in a
// capsule that shares their ownership.
//
// Threads: the caller holds the GIL.
#pragma once

#include <memory>
#include <utility>

#include <Python.h>

#include "bindings/completion_queue.h"
#include "bindings/python_errors.h"
#include "serving/model.h"
#include "serving/registry.h"

namespace pyruntime {

template <typename T>
struct CapsuleName;
template <>
struct CapsuleName<ModelVersion> {
  static constexpr const char* kValue = "pyruntime.ModelVersion";
};
template <>
struct CapsuleName<Registry> {
  static constexpr const char* kValue = "pyruntime.Registry";
};
template <>
struct CapsuleName<CompletionQueue> {
  static constexpr const char* kValue = "pyruntime.CompletionQueue";
};

// A new reference. Throws PythonErrorIsSet.
template <typename T>
PyObject* to_capsule(std::shared_ptr<T> shared) {
  auto held = std::make_unique<std::shared_ptr<T>>(std::move(shared));
  const char* const name = CapsuleName<T>::kValue;
  PyObject* capsule = PyCapsule_New(held.get(), name, [](PyObject* dying) {
    delete static_cast<std::shared_ptr<T>*>(PyCapsule_GetPointer(dying, CapsuleName<T>::kValue));
  });
  if (capsule == nullptr) throw PythonErrorIsSet();
  held.release();
  return capsule;
}

// Throws PythonErrorIsSet when `capsule` is not one of to_capsule<T>().
template <typename T>
std::shared_ptr<T> from_capsule(PyObject* capsule) {
  void* held = PyCapsule_GetPointer(capsule, CapsuleName<T>::kValue);
  if (held == nullptr) throw PythonErrorIsSet();
  return *static_cast<std::shared_ptr<T>*>(held);
}

}  // namespace pyruntime
