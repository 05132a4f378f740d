# The core, as far as pyruntime._hot calls it.
from libc.stdint cimport int64_t
from libcpp cimport bool as cpp_bool
from libcpp.memory cimport shared_ptr, unique_ptr, weak_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

from cpython.ref cimport PyObject


cdef extern from "<string_view>" namespace "std" nogil:
    cdef cppclass string_view:
        string_view()
        const char* data()
        size_t size()


cdef extern from "bindings/python_errors.h" namespace "pyruntime":
    void set_python_error_from_caught()
    void set_python_error(const Status& status)
    object make_exception(const Status& status)


cdef extern from "base/error.h" namespace "pyruntime" nogil:
    cdef cppclass Status:
        Status()
        cpp_bool ok()


cdef extern from "memory/device.h" namespace "pyruntime" nogil:
    cdef cppclass Device:
        pass


cdef extern from "memory/tensor.h" namespace "pyruntime" nogil:
    cdef cppclass Buffer:
        Buffer()
        cpp_bool operator bool()

    cdef cppclass Shape:
        size_t rank()
        const int64_t* data()

    cdef cppclass Tensor:
        Shape shape
        char* data
        Buffer buffer
        size_t size_bytes()

    cdef cppclass StringRef:
        const char* data
        size_t size_bytes

    int kDataTypeCount


cdef extern from "memory/hand_over.h" namespace "pyruntime" nogil:
    cdef cppclass HandOver:
        void* stream() except +set_python_error_from_caught
        Status after(void* stream) except +set_python_error_from_caught
        Buffer wrap(void* data, size_t size_bytes) except +set_python_error_from_caught


cdef extern from "engine/session.h" namespace "pyruntime" nogil:
    cdef cppclass TensorSpec:
        string name

    cdef cppclass Signature:
        vector[TensorSpec] inputs
        vector[TensorSpec] outputs


cdef extern from "schedule/request.h" namespace "pyruntime" nogil:
    cdef cppclass Request:
        vector[Tensor] inputs
        vector[Tensor] outputs
        Status status
        cpp_bool cancel()
        void keep_on_device(unsigned long long)

    unsigned long long kAllOutputs

    cdef cppclass RequestRef:
        RequestRef()
        Request* get()
        void reset()


cdef extern from "serving/model.h" namespace "pyruntime" nogil:
    cdef cppclass ModelVersion:
        const string& name()
        int64_t version()
        const Signature& signature()
        RequestRef new_request() except +set_python_error_from_caught
        Status set_input(Request&, string_view, Tensor) except +set_python_error_from_caught
        Status want_output(Request&, string_view) except +set_python_error_from_caught
        Status infer(const RequestRef&) except +set_python_error_from_caught
        Status submit(const RequestRef&) except +set_python_error_from_caught
        Status warm_up(const RequestRef&, int) except +set_python_error_from_caught
        Status named(Status)
        cpp_bool is_accepting()
        void count_input_copied()
        Status check_memory(Device)


cdef extern from "serving/registry.h" namespace "pyruntime" nogil:
    cdef cppclass RouteQuery:
        string_view label
        string_view key

    cdef cppclass Decision:
        Decision()
        shared_ptr[ModelVersion] model
        string_view experiment()
        string_view arm_name()
        cpp_bool is_watching()
        void watch(Request&, string_view)
        void end(const Status&, const Request&)
        void reset()

    cdef cppclass Registry:
        Status route(string_view, const RouteQuery&, Decision*) \
            except +set_python_error_from_caught
        Status primary(string_view, string_view, shared_ptr[ModelVersion]*) \
            except +set_python_error_from_caught


cdef extern from "bindings/completion_queue.h" namespace "pyruntime":
    cdef cppclass Completion:
        Completion* next
        void (*deliver)(Completion*) noexcept
        void* owner

    cdef cppclass NativeQueue "pyruntime::CompletionQueue":
        int event_fd()
        void wake()
        Completion* take_all()


cdef extern from "bindings/shared_capsule.h" namespace "pyruntime":
    shared_ptr[T] from_capsule[T](PyObject*) except +set_python_error_from_caught
    object to_capsule[T](shared_ptr[T]) except +set_python_error_from_caught
    shared_ptr[NativeQueue] make_queue "std::make_shared<pyruntime::CompletionQueue>"() \
        except +set_python_error_from_caught


cdef extern from "bindings/dlpack.h" namespace "pyruntime::dlpack":
    int CUDA "pyruntime::dlpack::kCuda"
    object to_dlpack "pyruntime::dlpack::to_capsule"(const Tensor&, cpp_bool) \
        except +set_python_error_from_caught

    cdef cppclass Taken:
        void take(PyObject*) except +set_python_error_from_caught
        void describe(Device, Tensor*) except +set_python_error_from_caught


cdef extern from "bindings/hot.h" namespace "pyruntime":
    cdef cppclass PendingRequest:
        PendingRequest()
        RequestRef request
        Decision decision
        void prepare(shared_ptr[NativeQueue], void (*)(Completion*) noexcept, void*)
        void reset()

    void view(Tensor&, int type, void* data, int rank, const void* dims) \
        except +set_python_error_from_caught
    void view_on_device(Tensor&, int type, void* data, int rank, const int64_t* dims, int index) \
        except +set_python_error_from_caught
    Device cuda_device(int index)
    int index_of_device(const Tensor&)
    cpp_bool is_on_cuda(const Tensor&)
    cpp_bool is_on_host(const Tensor&)
    string device_name_of(const Tensor&)
    void set_type(Tensor&, int type)
    unique_ptr[Tensor] copy_of(const Tensor&) except +set_python_error_from_caught
    int device_of_address(const ModelVersion&, size_t) except +set_python_error_from_caught
    unique_ptr[HandOver] make_hand_over(int index) except +set_python_error_from_caught
    void keep_for_readers(Tensor&) except +set_python_error_from_caught
    Status fetch(const Tensor&, void*) nogil
    int type_of(const Tensor&)
    int type_of_spec(const TensorSpec&)
    weak_ptr[ModelVersion] weaken(const shared_ptr[ModelVersion]&)
    cpp_bool is_of(const weak_ptr[ModelVersion]&, const shared_ptr[ModelVersion]&)
    cpp_bool is_refused_by_closed(const Status&)
    void set_deadline(Request&, double seconds)
    void set_priority(Request&, int)
    string_view view_of(const char*, Py_ssize_t)
