# From a finished request's tensors to arrays.

# Results up to this size are copied, which costs less than an object that keeps their buffer.
cdef enum:
    COPIED_BYTES = 1024

# By the core's DataType; bfloat16 is looked up.
cdef int[13] NUMPY_OF_TYPE = [
    cnp.NPY_BOOL,
    cnp.NPY_UINT8, cnp.NPY_UINT16, cnp.NPY_UINT32, cnp.NPY_UINT64,
    cnp.NPY_INT8, cnp.NPY_INT16, cnp.NPY_INT32, cnp.NPY_INT64,
    cnp.NPY_FLOAT16, cnp.NPY_UINT16, cnp.NPY_FLOAT32, cnp.NPY_FLOAT64,
]

cdef object bfloat16_dtype = None


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class ResultMemory:
    """Keeps the buffer of a result for the array that shows it."""

    cdef Buffer buffer


cdef object take_outputs(Plan plan, Request* request):
    cdef dict outputs = {}
    cdef Py_ssize_t i
    for i in range(plan.output_count):
        if request.outputs[i].data != NULL:
            outputs[<object>PyTuple_GET_ITEM(<PyObject*>plan.output_names, i)] = (
                to_array(&request.outputs[i]) if is_on_host(request.outputs[i])
                else to_device_array(&request.outputs[i]))
    return outputs


cdef object to_array(Tensor* tensor):
    cdef int type = type_of(tensor[0])
    cdef int rank = <int>tensor.shape.rank()
    cdef cnp.npy_intp* dims = <cnp.npy_intp*>tensor.shape.data()
    cdef size_t size_bytes
    cdef PyArray_Descr* descr
    cdef PyObject* made
    cdef ResultMemory memory
    if type == STRING:
        return to_object_array(tensor, rank, dims)
    if type == BFLOAT16:
        descr = new_bfloat16_descr()
    else:
        descr = PyArray_DescrFromType(NUMPY_OF_TYPE[type])
    size_bytes = tensor.size_bytes()
    if size_bytes <= COPIED_BYTES or not <cpp_bool>tensor.buffer:
        made = PyArray_NewFromDescr(&PyArray_Type, descr, rank, dims, NULL, NULL, 0, NULL)
        if made == NULL:
            raise_current()
        array = <object>made
        Py_DECREF(array)
        memcpy(cnp.PyArray_DATA(<cnp.ndarray>array), tensor.data, size_bytes)
        return array
    memory = ResultMemory.__new__(ResultMemory)
    memory.buffer = tensor.buffer
    made = PyArray_NewFromDescr(&PyArray_Type, descr, rank, dims, NULL, tensor.data,
                                cnp.NPY_ARRAY_CARRAY, NULL)
    if made == NULL:
        raise_current()
    array = <object>made
    Py_DECREF(array)
    cnp.set_array_base(<cnp.ndarray>array, memory)
    return array


cdef PyArray_Descr* new_bfloat16_descr() except NULL:
    global bfloat16_dtype
    if bfloat16_dtype is None:
        found = bfloat16()
        bfloat16_dtype = np.dtype(np.uint16) if found is None else found
    Py_INCREF(bfloat16_dtype)
    return <PyArray_Descr*>bfloat16_dtype


cdef object to_object_array(Tensor* tensor, int rank, cnp.npy_intp* dims):
    """Strings as str, those that are not UTF-8 as bytes."""
    cdef cnp.ndarray array = cnp.PyArray_SimpleNew(rank, dims, cnp.NPY_OBJECT)
    cdef PyObject** items = <PyObject**>cnp.PyArray_DATA(array)
    cdef StringRef* refs = <StringRef*>tensor.data
    cdef Py_ssize_t i
    for i in range(cnp.PyArray_SIZE(array)):
        try:
            item = PyUnicode_DecodeUTF8(refs[i].data, refs[i].size_bytes, NULL)
        except UnicodeDecodeError:
            item = PyBytes_FromStringAndSize(refs[i].data, refs[i].size_bytes)
        Py_INCREF(item)
        Py_XDECREF(items[i])
        items[i] = <PyObject*>item
    return array


cdef int raise_current() except -1:
    """After a call of the C interface that has set the error."""
    return -1
