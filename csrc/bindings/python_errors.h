// The one map from ErrorCode to the Python exceptions of pyruntime.errors.
//
// Threads: the caller holds the GIL.
#pragma once

#include <array>
#include <cstddef>
#include <exception>
#include <new>
#include <string>
#include <string_view>

#include <Python.h>

#include "base/error.h"

namespace pyruntime {

// Thrown where a call of Python's C interface has already set Python's error.
struct PythonErrorIsSet : std::exception {
  const char* what() const noexcept override { return "a Python error is set"; }
};

// The class of pyruntime.errors for `code`, borrowed; nullptr with Python's error set.
inline PyObject* exception_class(ErrorCode code) {
  static std::array<PyObject*, 16> classes{};  // they live as long as the interpreter
  PyObject*& cached = classes.at(static_cast<std::size_t>(code));
  if (cached != nullptr) return cached;
  PyObject* module = PyImport_ImportModule("pyruntime.errors");
  if (module == nullptr) return nullptr;
  PyObject* by_code = PyObject_GetAttrString(module, "BY_CODE");
  Py_DECREF(module);
  if (by_code == nullptr) return nullptr;
  const std::string_view name = error_code_name(code);
  PyObject* key = PyUnicode_FromStringAndSize(name.data(), static_cast<Py_ssize_t>(name.size()));
  if (key != nullptr) {
    cached = PyObject_GetItem(by_code, key);
    Py_DECREF(key);
  }
  Py_DECREF(by_code);
  return cached;
}

// The message as str. It may quote names that came from outside and are not UTF-8.
inline PyObject* exception_message(const Status& status) {
  const std::string& message = status.message();
  return PyUnicode_DecodeUTF8(message.data(), static_cast<Py_ssize_t>(message.size()), "replace");
}

// Sets Python's error to what `status`, not ok, says.
inline void set_python_error(const Status& status) {
  PyObject* type = exception_class(status.code());
  if (type == nullptr) return;
  PyObject* message = exception_message(status);
  if (message == nullptr) return;
  PyErr_SetObject(type, message);
  Py_DECREF(message);
}

// A new exception for `status`; nullptr with Python's error set.
inline PyObject* make_exception(const Status& status) {
  PyObject* type = exception_class(status.code());
  if (type == nullptr) return nullptr;
  PyObject* message = exception_message(status);
  if (message == nullptr) return nullptr;
  PyObject* exception = PyObject_CallOneArg(type, message);
  Py_DECREF(message);
  return exception;
}

// Within a catch block: sets Python's error to what was caught.
inline void set_python_error_from_caught() noexcept {
  try {
    throw;
  } catch (const PythonErrorIsSet&) {
    return;
  } catch (const Error& error) {
    set_python_error(error.status());
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  } catch (...) {
    PyErr_SetString(PyExc_RuntimeError, "unknown C++ exception");
  }
}

}  // namespace pyruntime
