# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: embedsignature=False
"""The calls that are so hot that a general binding would show in their time."""

cimport cython
cimport numpy as cnp
from cpython.bytes cimport PyBytes_AsStringAndSize, PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_Next
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF, PyObject, PyTypeObject
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t
from libc.string cimport memcpy
from libcpp cimport bool as cpp_bool
from libcpp.memory cimport shared_ptr, unique_ptr, weak_ptr
from libcpp.string cimport string
from libcpp.utility cimport move
from libcpp.vector cimport vector
from native cimport *

import numpy as np

from pyruntime.cuda_arrays import dlpack_capsule, dlpack_index, read_interface
from pyruntime.errors import InvalidInput, ModelNotFound, Unavailable
from pyruntime.routing import Assignment
from pyruntime.tensors import DTYPES, as_array, bfloat16

cdef extern from "Python.h":
    PyObject* PyTuple_GET_ITEM(PyObject*, Py_ssize_t)
    void PyErr_WriteUnraisable(object)

cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyArray_Descr:
        pass
    PyTypeObject PyArray_Type
    PyArray_Descr* PyArray_DescrFromType(int)
    # Takes over a reference to the descr.
    PyObject* PyArray_NewFromDescr(PyTypeObject*, PyArray_Descr*, int, cnp.npy_intp*,
                                   cnp.npy_intp*, void*, int, PyObject*)

cnp.import_array()

__all__ = ["CompletionQueue", "DeviceArray", "Handle", "Pending"]


@cython.final
cdef class Plan:
    """What every call needs of one version's signature."""

    cdef weak_ptr[ModelVersion] model
    cdef tuple input_names
    cdef tuple output_names
    cdef list input_dtypes
    cdef vector[int] input_types
    cdef dict input_indices
    cdef Py_ssize_t input_count
    cdef Py_ssize_t output_count

    cdef Py_ssize_t index_of(self, object name, Py_ssize_t guess) except -2:
        """Of the input `name`, -1 for an unknown one; a good guess makes it cheap."""
        if guess < self.input_count and PyTuple_GET_ITEM(
                <PyObject*>self.input_names, guess) == <PyObject*>name:
            return guess
        found = self.input_indices.get(name)
        return -1 if found is None else <Py_ssize_t>found


cdef Plan new_plan(const shared_ptr[ModelVersion]& model):
    cdef const Signature* signature = &model.get().signature()
    cdef Plan plan = Plan.__new__(Plan)
    cdef size_t i
    plan.model = weaken(model)
    plan.input_names = tuple([intern(text(signature.inputs[i].name))
                              for i in range(signature.inputs.size())])
    plan.output_names = tuple([intern(text(signature.outputs[i].name))
                               for i in range(signature.outputs.size())])
    plan.input_indices = {name: index for index, name in enumerate(plan.input_names)}
    plan.input_types.reserve(signature.inputs.size())
    plan.input_dtypes = []
    for i in range(signature.inputs.size()):
        plan.input_types.push_back(type_of_spec(signature.inputs[i]))
        plan.input_dtypes.append(DTYPES[type_of_spec(signature.inputs[i])])
    plan.input_count = len(plan.input_names)
    plan.output_count = len(plan.output_names)
    return plan


cdef str text(const string& utf8):
    return PyUnicode_DecodeUTF8(utf8.data(), utf8.size(), "surrogateescape")


cdef str text_of(string_view utf8):
    return PyUnicode_DecodeUTF8(utf8.data(), utf8.size(), "surrogateescape")


include "arrays_in.pxi"
include "device_arrays.pxi"
include "arrays_out.pxi"


cdef object set_inputs(Plan plan, ModelVersion* model, Request* request, object inputs):
    """Describe `inputs` in `request`; returns what keeps their memory until completion."""
    cdef PyObject* name = NULL
    cdef PyObject* value = NULL
    cdef Py_ssize_t position = 0, index, next_index = 0
    cdef list holders = None
    holder = None
    if type(inputs) is not dict:
        inputs = to_dict(inputs)
    while PyDict_Next(inputs, &position, &name, &value):
        index = plan.index_of(<object>name, next_index)
        if index < 0:
            refuse_input(plan, model, request, <object>name)
        next_index = index + 1
        one = set_tensor(plan, model, &request.inputs[index], index, <object>value)
        # A list only from the second input on: it costs as much as the rest.
        if holder is None:
            holder = one
        else:
            if holders is None:
                holders = [holder]
            holders.append(one)
    return holder if holders is None else holders


cdef dict to_dict(object inputs):
    try:
        return dict(inputs)
    except (TypeError, ValueError):
        raise InvalidInput(
            f"inputs: expected a mapping of names to arrays, got {type_name(inputs)}") from None


cdef int refuse_input(Plan plan, ModelVersion* model, Request* request, object name) except -1:
    cdef Tensor none
    cdef Py_ssize_t size_bytes = 0
    cdef const char* data
    if not isinstance(name, str):
        raise InvalidInput(f"inputs: expected names of type str, got {name!r}")
    data = PyUnicode_AsUTF8AndSize(name, &size_bytes)
    raise_if_failed(model.set_input(request[0], view_of(data, size_bytes), none))
    raise InvalidInput(f"input '{name}': not known")  # the line above says more


cdef int set_options(ModelVersion* model, Request* request, object outputs, object timeout_s,
                     object priority, object outputs_on) except -1:
    cdef double seconds
    cdef Py_ssize_t size_bytes = 0
    cdef const char* data
    if outputs is not None:
        names = () if isinstance(outputs, (str, bytes)) else tuple(outputs)
        if not names or not all([isinstance(name, str) for name in names]):
            raise InvalidInput(f"outputs: expected a sequence of names, got {outputs!r}")
        for name in names:
            data = PyUnicode_AsUTF8AndSize(name, &size_bytes)
            raise_if_failed(model.want_output(request[0], view_of(data, size_bytes)))
    if timeout_s is not None:
        try:
            seconds = timeout_s
        except TypeError:
            seconds = float("nan")
        if seconds != seconds:
            raise InvalidInput(f"timeout_s: expected seconds or None, got {timeout_s!r}")
        set_deadline(request[0], seconds)
    if priority is not None:
        if priority == "high":
            set_priority(request[0], 0)
        elif priority == "normal":
            set_priority(request[0], 1)
        elif priority == "low":
            set_priority(request[0], 2)
        else:
            raise InvalidInput(
                f"priority: expected 'high', 'normal' or 'low', got {priority!r}")
    if outputs_on is not HOST and outputs_on != HOST:
        if outputs_on != "device":
            raise InvalidInput(f"outputs_on: expected 'host' or 'device', got {outputs_on!r}")
        if request.outputs.size() > 64:
            raise InvalidInput(
                f"outputs_on: expected 'host' of a model with more than 64 outputs, got 'device'")
        request.keep_on_device(kAllOutputs)
    return 0


cdef str HOST = intern("host")


cdef int raise_if_failed(const Status& status) except -1:
    if status.ok():
        return 0
    set_python_error(status)
    return -1


cdef string_view text_view(object value, str what) except *:
    """Of a str that outlives the view."""
    cdef Py_ssize_t size_bytes = 0
    cdef const char* data
    if not isinstance(value, str):
        raise InvalidInput(f"{what}: expected a str or None, got {value!r}")
    data = PyUnicode_AsUTF8AndSize(value, &size_bytes)
    return view_of(data, size_bytes)


cdef enum:
    # Versions whose plans a handle keeps: those that a route chooses from.
    KEPT_PLANS = 8


cdef class Handle:
    """Calls a model: one version of it, that of a label, or whichever the route chooses.

    registry, model: capsules of _core.Registry and _core.ModelVersion; the model is not kept
    from being freed. is_routed: let the route, or `label` if it is not empty, choose at each call.
    """

    cdef readonly str name
    cdef string name_utf8
    cdef string label_utf8
    cdef bint is_routed
    cdef int64_t first_version
    cdef shared_ptr[Registry] registry
    cdef Plan plan  # of the last call
    cdef list plans  # of that and others
    cdef object __weakref__

    def __init__(self, registry, model, *, bint is_routed, str label=""):
        cdef shared_ptr[ModelVersion] version = from_capsule[ModelVersion](<PyObject*>model)
        self.registry = from_capsule[Registry](<PyObject*>registry)
        self.plan = new_plan(version)
        self.plans = [self.plan]
        self.name_utf8 = version.get().name()
        self.name = text(self.name_utf8)
        self.label_utf8 = label.encode()
        self.first_version = version.get().version()
        self.is_routed = is_routed

    cdef Plan decide(self, object route_key, Decision* decision):
        """Find the version that answers a request now, and keep it alive in `decision`."""
        cdef RouteQuery query
        if self.plan is None:
            raise Unavailable("model: its handle was never initialised")
        if not self.is_routed:
            self.lock(&decision.model)
            return self.plan
        query.label = self.label_view()
        if route_key is not None:
            query.key = text_view(route_key, "route_key")
        raise_if_failed(self.registry.get().route(self.name_view(), query, decision))
        return self.plan_of(decision.model)

    cdef int lock(self, shared_ptr[ModelVersion]* model) except -1:
        model[0] = self.plan.model.lock()
        if model.get() == NULL:
            raise Unavailable(f"model '{self.name}' version {self.first_version}: unloaded")
        return 0

    cdef string_view name_view(self):
        return view_of(self.name_utf8.data(), self.name_utf8.size())

    cdef string_view label_view(self):
        return view_of(self.label_utf8.data(), self.label_utf8.size())

    cdef Plan plan_of(self, const shared_ptr[ModelVersion]& model):
        cdef Plan plan = self.plan
        if is_of(plan.model, model):
            return plan
        for plan in self.plans:
            if is_of(plan.model, model):
                self.plan = plan
                return plan
        plan = self.plan = new_plan(model)
        self.plans = [plan, *self.plans[:KEPT_PLANS - 1]]
        return plan

    def infer(self, inputs, *, outputs=None, timeout_s=None, priority=None, route_key=None,
              request_id=None, outputs_on="host"):
        """Run one request and wait for it, without the GIL.

        inputs: by name; arrays [rows, ...] with dtypes as in `self.inputs`. NumPy arrays, DLPack
        objects and buffers are read in place; what is not contiguous, aligned and of native
        byte order is copied once. Arrays on the GPU of the model (CuPy, PyTorch: by DLPack or
        `__cuda_array_interface__`) stay there, and the stream that writes to them is waited for
        on the GPU. Python's own lists and scalars are converted. Strings: arrays
        of str or bytes. bfloat16: arrays of ml_dtypes.bfloat16, or the same bits as uint16.
        outputs: names of those wanted; None: all.
        timeout_s: seconds that the request may wait in the queue; None: no limit.
        priority: "high", "normal" or "low"; None: the model's own, `Batching.default_priority`.
        route_key: what this caller's requests have in common, such as a user's id, by which a
        route keeps them on one version.
        request_id: by which Runtime.feedback() knows the request.
        outputs_on: "host", or "device" for outputs that stay on the model's GPU, as DeviceArray.

        Returns outputs by name, [rows, ...]; each keeps its memory alive. Strings come as object
        arrays of str (bytes where an element is not UTF-8), bfloat16 as ml_dtypes.bfloat16, or
        as uint16 where ml_dtypes is not installed.

        Raises InvalidInput, ModelNotFound, Overloaded, DeadlineExceeded, Cancelled, Unavailable,
        Unimplemented, EngineError.
        """
        try:
            return self.call(inputs, outputs, timeout_s, priority, route_key, request_id,
                             outputs_on, False)
        except (ModelNotFound, Unavailable) as error:
            with self._brought_in(error, timeout_s) as left_s:
                return self.call(inputs, outputs, left_s, priority, route_key, request_id,
                                 outputs_on, False)

    def infer_routed(self, inputs, *, outputs=None, timeout_s=None, priority=None,
                     route_key=None, request_id=None, outputs_on="host"):
        """As `infer`; returns the outputs and the routing.Assignment that says who answered."""
        try:
            return self.call(inputs, outputs, timeout_s, priority, route_key, request_id,
                             outputs_on, True)
        except (ModelNotFound, Unavailable) as error:
            with self._brought_in(error, timeout_s) as left_s:
                return self.call(inputs, outputs, left_s, priority, route_key, request_id,
                                 outputs_on, True)

    def _brought_in(self, error, timeout_s):
        """What keeps an absent model loaded that a request brings in; raises `error` if none."""
        raise error

    cdef object call(self, object inputs, object outputs, object timeout_s, object priority,
                     object route_key, object request_id, object outputs_on,
                     bint with_assignment):
        # In this order: the request goes before the model, whose pool it is from.
        cdef Decision decision
        cdef RequestRef request
        cdef Status status
        cdef Plan plan
        cdef ModelVersion* model
        while True:
            plan = self.decide(route_key, &decision)
            model = decision.model.get()
            request = model.new_request()
            holder = set_inputs(plan, model, request.get(), inputs)
            if (outputs is not None or timeout_s is not None or priority is not None
                    or outputs_on is not HOST):
                set_options(model, request.get(), outputs, timeout_s, priority, outputs_on)
            watch(&decision, request.get(), request_id)
            with nogil:
                status = model.infer(request)
            decision.end(status, request.get()[0])
            del holder
            if status.ok():
                result = take_outputs(plan, request.get())
                return (result, assignment_of(&decision)) if with_assignment else result
            request.reset()
            if not self.has_successor(decision.model, status):
                raise_if_failed(status)

    def _start(self, inputs, outputs, timeout_s, priority, route_key, request_id, outputs_on,
               future, CompletionQueue queue not None):
        """Submit a request whose result `queue` will bring to `future`."""
        cdef Pending pending
        cdef Status status
        while True:
            pending = Pending.__new__(Pending)
            self.prepare(pending, inputs, outputs, timeout_s, priority, route_key, outputs_on)
            pending.future = future
            pending.queue = queue
            pending.state.prepare(queue.queue, deliver_pending, <void*>pending)
            pending.request_id = request_id
            watch(&pending.state.decision, pending.state.request.get(), request_id)
            Py_INCREF(pending)  # deliver_pending() drops it
            queue.in_flight += 1
            if pending.state.decision.is_watching() and not queue.is_of_loop:
                future.assignment = assignment_of(&pending.state.decision)
            status = pending.state.decision.model.get().submit(pending.state.request)
            if status.ok():
                return pending
            pending.state.decision.end(status, pending.state.request.get()[0])
            Py_DECREF(pending)
            queue.in_flight -= 1
            pending.future = None
            pending.state.request.reset()
            if not self.has_successor(pending.state.decision.model, status):
                raise_if_failed(status)

    cdef int prepare(self, Pending pending, inputs, outputs, timeout_s, priority, route_key,
                     outputs_on) except -1:
        cdef ModelVersion* model
        cdef Request* request
        pending.plan = self.decide(route_key, &pending.state.decision)
        model = pending.state.decision.model.get()
        pending.state.request = model.new_request()
        request = pending.state.request.get()
        pending.holder = set_inputs(pending.plan, model, request, inputs)
        set_options(model, request, outputs, timeout_s, priority, outputs_on)
        return 0

    cdef bint has_successor(self, const shared_ptr[ModelVersion]& refused,
                            const Status& status) except -1:
        """Whether another version answers now than the one that closed meanwhile."""
        cdef Decision decision
        if not self.is_routed or not is_refused_by_closed(status):
            return False
        self.decide(None, &decision)
        return decision.model.get() != refused.get() and decision.model.get().is_accepting()

    def _warm_up(self, inputs, int runs):
        """Run a request `runs` times on each instance, beside what waits."""
        cdef shared_ptr[ModelVersion] model
        cdef RequestRef request
        cdef Status status
        cdef Plan plan = self.speaker(&model)
        request = model.get().new_request()
        holder = set_inputs(plan, model.get(), request.get(), inputs)
        with nogil:
            status = model.get().warm_up(request, runs)
        del holder
        raise_if_failed(status)

    def _rebind(self, model):
        """Call another loaded version from now on, of the same number."""
        cdef shared_ptr[ModelVersion] version = from_capsule[ModelVersion](<PyObject*>model)
        self.plan_of(version)

    def _model_capsule(self):
        """The version that speaks for this model now, for _core.ModelVersion.from_capsule."""
        cdef shared_ptr[ModelVersion] model
        self.speaker(&model)
        return to_capsule[ModelVersion](model)

    cdef Plan speaker(self, shared_ptr[ModelVersion]* model):
        """Find the version that speaks for this model now, and keep it alive in `model`."""
        if self.plan is None:
            raise Unavailable("model: its handle was never initialised")
        if not self.is_routed:
            self.lock(model)
            return self.plan
        raise_if_failed(self.registry.get().primary(self.name_view(), self.label_view(), model))
        return self.plan_of(model[0])


cdef int watch(Decision* decision, Request* request, object request_id) except -1:
    cdef string_view id
    if request_id is not None:
        id = text_view(request_id, "request_id")
    decision.watch(request[0], id)
    return 0


cdef object assignment_of(Decision* decision):
    return Assignment(decision.model.get().version(), text_of(decision.experiment()),
                      text_of(decision.arm_name()))


@cython.final
@cython.freelist(64)
cdef class Pending:
    """A submitted request and all that must live until it is done."""

    cdef PendingRequest state
    cdef Plan plan
    cdef CompletionQueue queue
    cdef object future
    cdef object holder
    cdef object request_id  # the decision reads it until completion

    def cancel(self):
        """Give it up; whether it was. One that runs is only asked to end."""
        cdef Request* request = self.state.request.get()
        return request != NULL and request.cancel()

    cdef int finish(self) except -1:
        cdef Request* request = self.state.request.get()
        future, self.future = self.future, None
        result = error = None
        self.queue.in_flight -= 1
        if request.status.ok():
            try:
                result = take_outputs(self.plan, request)
            except Exception as failure:
                error = failure
        else:
            error = make_exception(self.state.decision.model.get().named(request.status))
        self.state.reset()
        self.holder = None
        if not self.queue.is_of_loop:
            future.deliver(result, error)
        elif not self.queue.is_abandoned and not future.done():
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        return 0


cdef void deliver_pending(Completion* completion) noexcept:
    cdef Pending pending = <Pending>completion.owner
    Py_DECREF(pending)
    try:
        pending.finish()
    except BaseException:
        PyErr_WriteUnraisable(pending)


@cython.final
cdef class CompletionQueue:
    """Finished requests on their way to one thread or event loop.

    is_of_loop: the futures are asyncio's. in_flight: submitted and not delivered; under the GIL.
    """

    cdef shared_ptr[NativeQueue] queue
    cdef readonly Py_ssize_t in_flight
    cdef readonly bint is_of_loop
    cdef readonly bint is_abandoned

    def __init__(self, bint is_of_loop=False):
        self.queue = make_queue()
        self.is_of_loop = is_of_loop

    def fileno(self):
        """The eventfd, readable while something may have arrived."""
        return self.queue.get().event_fd()

    def wake(self):
        """Make the eventfd readable."""
        self.queue.get().wake()

    def drain(self):
        """Deliver everything that has arrived; returns how much that was."""
        cdef Completion* completion = self.queue.get().take_all()
        cdef Completion* following
        cdef Py_ssize_t count = 0
        while completion != NULL:
            following = completion.next  # delivery frees the completion
            completion.deliver(completion)
            completion = following
            count += 1
        return count

    def abandon(self):
        """Deliver no more results: the loop is closed."""
        self.is_abandoned = True

    @property
    def capsule(self):
        """Shares the queue with pyruntime._core."""
        return to_capsule[NativeQueue](self.queue)
