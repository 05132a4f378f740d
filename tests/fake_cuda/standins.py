"""Arrays on the fake driver's devices, as CuPy and its like have them: for tests of who takes them.

To be run with PYRUNTIME_CUDA_DRIVER naming the fake driver.
"""

import ctypes
import os

import numpy as np

_cuda = ctypes.CDLL(os.environ["PYRUNTIME_CUDA_DRIVER"])
_contexts: dict[int, ctypes.c_void_p] = {}


class _Faults(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            "delay_us",
            "delay_jitter_us",
            "fail_after",
            "stall_after",
            "end_context_after",
            "memory_bytes",
        )
    ]


class _Control(ctypes.Structure):
    _fields_ = [
        ("set_faults", ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.POINTER(_Faults))),
        ("fail_next", ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_int)),
        ("misuse_count", ctypes.CFUNCTYPE(ctypes.c_uint64)),
        ("last_misuse", ctypes.CFUNCTYPE(ctypes.c_char_p)),
        ("used_bytes", ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_int)),
        ("host_bytes", ctypes.CFUNCTYPE(ctypes.c_uint64)),
    ]


_cuda.fake_cuda_control.restype = ctypes.POINTER(_Control)
control = _cuda.fake_cuda_control().contents


def set_delay_us(delay_us: int, device: int = 0) -> None:
    """Delay every copy that is given from now on."""
    control.set_faults(device, ctypes.byref(_Faults(delay_us, 0, -1, -1, -1, -1)))


def call(name: str, *arguments: object, device: int = 0) -> None:
    """Call the driver with that device's context current."""
    if device not in _contexts:
        context = ctypes.c_void_p()
        assert _cuda.cuInit(0) == 0
        assert _cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0
        _contexts[device] = context
    before = ctypes.c_void_p()
    assert _cuda.cuCtxGetCurrent(ctypes.byref(before)) == 0
    assert _cuda.cuCtxSetCurrent(_contexts[device]) == 0
    result = getattr(_cuda, name)(*arguments)
    assert _cuda.cuCtxSetCurrent(before) == 0
    assert result == 0, f"{name}: {result}"


class Stream:
    """A stream of the owner's."""

    def __init__(self, device: int = 0) -> None:
        self.device = device
        self.handle = ctypes.c_void_p()
        call("cuStreamCreate", ctypes.byref(self.handle), 0, device=device)

    def synchronize(self) -> None:
        call("cuStreamSynchronize", self.handle, device=self.device)


class Memory:
    """Memory of a device, written by copies in `stream` that nobody has waited for."""

    def __init__(self, values: np.ndarray, stream: Stream) -> None:
        self.stream = stream
        self.device = stream.device
        self.values = np.ascontiguousarray(values)
        address = ctypes.c_uint64()
        size = ctypes.c_size_t(max(self.values.nbytes, 1))
        call("cuMemAlloc_v2", ctypes.byref(address), size, device=self.device)
        self.address = address.value
        self.write(self.values)

    def write(self, values: np.ndarray) -> None:
        call(
            "cuMemcpyHtoDAsync_v2",
            ctypes.c_uint64(self.address),
            ctypes.c_void_p(values.ctypes.data),
            ctypes.c_size_t(values.nbytes),
            self.stream.handle,
            device=self.device,
        )

    def free(self) -> None:
        self.stream.synchronize()
        call("cuMemFree_v2", ctypes.c_uint64(self.address), device=self.device)


class WithInterface:
    """Has `__cuda_array_interface__` alone, as Numba's arrays."""

    def __init__(self, memory: Memory, *, names_stream: bool = True, **changes: object) -> None:
        self.memory = memory
        self.__cuda_array_interface__ = {
            "shape": memory.values.shape,
            "typestr": memory.values.dtype.str,
            "data": (memory.address, False),
            "version": 3,
            "strides": None,
            "stream": memory.stream.handle.value if names_stream else None,
        } | changes


class _DLDevice(ctypes.Structure):
    _fields_ = [("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32)]


class _DLDataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", _DLDevice),
        ("ndim", ctypes.c_int32),
        ("dtype", _DLDataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    pass


_DELETER = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = [
    ("dl_tensor", _DLTensor),
    ("manager_ctx", ctypes.c_void_p),
    ("deleter", _DELETER),
]


class _Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("dl_tensor", _DLTensor),
    ]


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_capsule_name = ctypes.pythonapi.PyCapsule_SetName
_capsule_name.argtypes = [ctypes.py_object, ctypes.c_char_p]


_CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}  # by NumPy's kind


class WithDLPack:
    """Gives DLPack capsules, as CuPy and PyTorch: the stream it is told is made to wait.

    taken: capsules whose taker has not called their deleter yet. waits: whether it keeps to that.
    """

    def __init__(self, memory: Memory, *, waits: bool = True, strides=None) -> None:
        self.memory = memory
        self.waits = waits
        self.strides = strides
        self.streams: list[int] = []
        self.taken = 0
        self._alive: list[object] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.memory.device

    def __dlpack__(self, *, stream: int | None = None) -> object:
        assert isinstance(stream, int)
        assert stream > 2 or stream in (1, 2)
        self.streams.append(stream)
        memory = self.memory
        if self.waits:
            event = ctypes.c_void_p()
            call("cuEventCreate", ctypes.byref(event), 2, device=memory.device)
            call("cuEventRecord", event, memory.stream.handle, device=memory.device)
            call("cuStreamWaitEvent", ctypes.c_void_p(stream), event, 0, device=memory.device)
        managed = _Managed()
        values = memory.values
        shape = (ctypes.c_int64 * max(values.ndim, 1))(*values.shape)
        tensor = managed.dl_tensor
        tensor.data = memory.address
        tensor.device = _DLDevice(2, memory.device)
        tensor.ndim = values.ndim
        tensor.dtype = _DLDataType(_CODES[values.dtype.kind], values.dtype.itemsize * 8, 1)
        tensor.shape = shape
        if self.strides is not None:
            strides = (ctypes.c_int64 * values.ndim)(*self.strides)
            tensor.strides = strides
            self._alive.append(strides)

        def delete(_: object) -> None:
            self.taken -= 1

        managed.deleter = _DELETER(delete)
        self._alive.append((managed, shape))
        self.taken += 1
        return _new_capsule(ctypes.addressof(managed), b"dltensor", None)


def read_address(address: int, shape: tuple[int, ...], dtype: str, device: int = 0) -> np.ndarray:
    """What lies on a device, copied in the default stream and waited for."""
    values = np.empty(shape, dtype)
    call(
        "cuMemcpyDtoHAsync_v2",
        ctypes.c_void_p(values.ctypes.data),
        ctypes.c_uint64(address),
        ctypes.c_size_t(values.nbytes),
        None,
        device=device,
    )
    call("cuStreamSynchronize", None, device=device)
    return values


def take_capsule(capsule: object, dtype: str) -> tuple[np.ndarray, object]:
    """Take a capsule of version 1, read it as its taker; also what calls its deleter."""
    name = b"dltensor_versioned"
    address = _capsule_pointer(capsule, name)
    assert _capsule_name(capsule, b"used_dltensor_versioned") == 0
    managed = _Versioned.from_address(address)
    assert managed.major == 1
    tensor = managed.dl_tensor
    assert tensor.device.device_type == 2
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    values = read_address(tensor.data + tensor.byte_offset, shape, dtype, tensor.device.device_id)
    delete = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(managed.deleter)
    return values, lambda: delete(address)
