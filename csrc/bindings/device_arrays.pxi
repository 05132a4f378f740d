# Arrays in the memory of a GPU: what callers pass, and outputs that stay there.

cdef enum:
    MAX_RANK = 16  # Shape::kMaxRank


@cython.final
@cython.no_gc
cdef class TakenArray:
    """Keeps the memory of an input."""

    cdef Taken taken
    cdef object owner


cdef object set_device_tensor(Plan plan, ModelVersion* model, Tensor* tensor, Py_ssize_t index,
                              object value):
    """As set_tensor() for an array on a GPU; None where `value` is no such thing."""
    cdef int device
    cdef TakenArray taken
    cdef unique_ptr[HandOver] hand_over
    try:
        found = dlpack_index(value)
        interface = None if found is not None else read_interface(
            value, plan.input_dtypes[index])
        if found is None and interface is None:
            return None
        if found is not None:
            device = found
        else:
            device = device_of_address(model[0], interface.address)
        raise_if_failed(model.check_memory(cuda_device(device)))
        hand_over = make_hand_over(device)
        taken = TakenArray.__new__(TakenArray)
        taken.owner = value
        if interface is None:
            # The owner makes a stream of ours wait; see "stream" in the DLPack protocol.
            capsule = dlpack_capsule(value, <size_t>hand_over.get().stream())
            taken.taken.take(<PyObject*>capsule)
            taken.taken.describe(cuda_device(device), tensor)
        else:
            # Version 3: whoever reads waits for the stream that is named.
            describe_interface(tensor, interface, device)
            if interface.stream != 0:
                raise_if_failed(hand_over.get().after(<void*><size_t>interface.stream))
        if type_of(tensor[0]) == UINT16 and plan.input_types[index] == BFLOAT16:
            set_type(tensor[0], BFLOAT16)
        tensor.buffer = hand_over.get().wrap(tensor.data, tensor.size_bytes())
        return taken
    except InvalidInput as error:
        raise InvalidInput(f"input '{plan.input_names[index]}': {error}") from error.__cause__
    except (BufferError, AttributeError, OverflowError, RuntimeError, TypeError,
            ValueError) as error:
        raise InvalidInput(
            f"input '{plan.input_names[index]}': expected {plan.input_dtypes[index]}, got "
            f"{type_name(value)}: {error}") from error


cdef int describe_interface(Tensor* tensor, object interface, int device) except -1:
    cdef int64_t[MAX_RANK] dims
    cdef int rank = len(interface.shape)
    if rank > MAX_RANK:
        raise InvalidInput(f"expected at most {MAX_RANK} dimensions, got {rank}")
    for axis, size in enumerate(interface.shape):
        dims[<int>axis] = size
    view_on_device(tensor[0], interface.type, <void*><size_t>interface.address, rank, dims, device)
    return 0


@cython.final
cdef class DeviceArray:
    """An output in the memory of a GPU, row-major and contiguous; see `outputs_on` of Model.infer.

    CuPy, PyTorch and others take it by DLPack or `__cuda_array_interface__`, without a copy; each
    of them, and this, keeps the memory. All work on it is done: no stream has to wait. Who reads it
    in a stream that was made non-blocking keeps it until that has been done.

    shape, dtype: as of the NumPy array that the output is otherwise. device: "cuda:0".
    """

    cdef unique_ptr[Tensor] tensor
    cdef bint is_given_out
    cdef object __weakref__

    def __init__(self):
        raise TypeError("DeviceArray: made by Model.infer(outputs_on='device') alone")

    @property
    def shape(self):
        return tuple([self.tensor.get().shape.data()[axis]
                      for axis in range(<Py_ssize_t>self.tensor.get().shape.rank())])

    @property
    def dtype(self):
        return DTYPES[type_of(self.tensor.get()[0])]

    @property
    def device(self):
        return text(device_name_of(self.tensor.get()[0]))

    @property
    def nbytes(self):
        return self.tensor.get().size_bytes()

    def __len__(self):
        if self.tensor.get().shape.rank() == 0:
            raise TypeError("DeviceArray: a scalar has no length")
        return self.tensor.get().shape.data()[0]

    def __repr__(self):
        return f"<DeviceArray {self.dtype}{list(self.shape)} on {self.device}>"

    def numpy(self):
        """Copy it to the host, as a NumPy array."""
        cdef Tensor* tensor = self.tensor.get()
        cdef Status status
        cdef cnp.ndarray array
        name = DTYPES[type_of(tensor[0])]
        array = np.empty(self.shape, dtype=(bfloat16() or np.uint16) if name == "bfloat16" else name)
        cdef void* to = cnp.PyArray_DATA(array)
        with nogil:
            status = fetch(tensor[0], to)
        raise_if_failed(status)
        return array

    def __dlpack_device__(self):
        return CUDA, self.cuda_index()

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        """Give it out. The stream need not wait for anything, so it may be any."""
        index = self.cuda_index()
        if dl_device is not None and tuple(dl_device) != (CUDA, index):
            raise BufferError(f"DeviceArray: expected dl_device ({CUDA}, {index}), got {dl_device}")
        if copy:
            raise BufferError("DeviceArray: expected copy to be None or False, got True")
        if stream is not None and (not isinstance(stream, int) or stream == 0 or stream < -1):
            raise ValueError(
                f"DeviceArray: expected None, -1, 1, 2 or a stream's address, got {stream!r}")
        self.give_out()
        is_versioned = max_version is not None and max_version[0] >= 1
        return to_dlpack(self.tensor.get()[0], is_versioned)

    @property
    def __cuda_array_interface__(self):
        cdef Tensor* tensor = self.tensor.get()
        if not is_on_cuda(tensor[0]) or type_of(tensor[0]) == BFLOAT16:
            raise AttributeError(
                f"DeviceArray: expected an array on CUDA and of a type that "
                f"__cuda_array_interface__ knows, got {self!r}")
        self.give_out()
        return {
            "shape": self.shape,
            "typestr": np.dtype(self.dtype).str,
            "data": (<size_t>tensor.data, False),
            "version": 3,
            "strides": None,
            "stream": None,
        }

    cdef int cuda_index(self) except -1:
        if not is_on_cuda(self.tensor.get()[0]):
            raise BufferError(f"DeviceArray: expected it on CUDA, got {self!r}")
        return index_of_device(self.tensor.get()[0])

    cdef int give_out(self) except -1:
        if not self.is_given_out:
            keep_for_readers(self.tensor.get()[0])
            self.is_given_out = True
        return 0


cdef object to_device_array(Tensor* tensor):
    cdef DeviceArray array = DeviceArray.__new__(DeviceArray)
    array.tensor = copy_of(tensor[0])
    return array
