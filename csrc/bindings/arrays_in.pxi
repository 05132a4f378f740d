# From what callers pass to tensors of a request.

# By NumPy's type number: the core's DataType, or what else to do.
cdef enum:
    UNKNOWN = -1
    TEXT = -2

cdef int[24] TYPE_OF_NUMPY = [
    0,  # bool
    5, 1,  # int8, uint8
    6, 2,  # short
    7, 3,  # int
    8, 4,  # long
    8, 4,  # long long
    11, 12, UNKNOWN,  # float32, float64, long double
    UNKNOWN, UNKNOWN, UNKNOWN,  # complex
    TEXT, TEXT, TEXT,  # object, bytes, str
    UNKNOWN, UNKNOWN, UNKNOWN,  # void, datetime, timedelta
    9,  # float16
]

cdef enum:
    UINT16 = 2
    BFLOAT16 = 10
    STRING = 13
    PLAIN = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED


@cython.final
@cython.no_gc
cdef class Strings:
    """Elements of a string tensor, pointing into the objects that hold their bytes."""

    cdef vector[StringRef] refs
    cdef object holders


cdef inline bint is_plain(cnp.ndarray array) noexcept:
    return (cnp.PyArray_FLAGS(array) & PLAIN) == PLAIN and cnp.PyArray_ISNOTSWAPPED(array)


cdef object set_tensor(Plan plan, ModelVersion* model, Tensor* tensor, Py_ssize_t index,
                       object value):
    """Point `tensor` at the memory of `value`; returns what keeps that memory alive."""
    cdef cnp.ndarray array
    cdef int number, type
    if cnp.PyArray_Check(value) and is_plain(<cnp.ndarray>value):
        array = <cnp.ndarray>value
    else:
        if hasattr(value, "__dlpack_device__") or hasattr(value, "__cuda_array_interface__"):
            held = set_device_tensor(plan, model, tensor, index, value)
            if held is not None:
                return held
        made, is_copy = as_array(value, plan.input_names[index], plan.input_dtypes[index])
        array = <cnp.ndarray?>made
        if is_copy:
            model.count_input_copied()
    number = cnp.PyArray_TYPE(array)
    type = TYPE_OF_NUMPY[number] if number < 24 else UNKNOWN
    if type >= 0:
        # bfloat16 travels as uint16 where ml_dtypes is not installed.
        if type == UINT16 and plan.input_types[index] == BFLOAT16:
            type = BFLOAT16
        view(tensor[0], type, cnp.PyArray_DATA(array), cnp.PyArray_NDIM(array),
             cnp.PyArray_DIMS(array))
        return array
    if type == UNKNOWN:
        dtype = array.dtype
        if dtype.name == "bfloat16":
            view(tensor[0], BFLOAT16, cnp.PyArray_DATA(array), cnp.PyArray_NDIM(array),
                 cnp.PyArray_DIMS(array))
            return array
        if dtype.kind != "T":
            raise InvalidInput(
                f"input '{plan.input_names[index]}': expected {plan.input_dtypes[index]}, "
                f"got an array of {dtype}")
    return set_strings(plan, tensor, index, array)


cdef object set_strings(Plan plan, Tensor* tensor, Py_ssize_t index, cnp.ndarray array):
    cdef Strings strings = Strings.__new__(Strings)
    cdef StringRef ref
    cdef Py_ssize_t size_bytes = 0
    cdef char* data = NULL
    # NumPy's own fixed-width elements become objects too: their padding ends here.
    cdef list items = array.ravel().tolist()
    strings.holders = items
    strings.refs.reserve(len(items) + 1)
    for position, item in enumerate(items):
        if isinstance(item, str):
            try:
                ref.data = PyUnicode_AsUTF8AndSize(item, &size_bytes)
            except UnicodeEncodeError as error:
                raise InvalidInput(
                    f"input '{plan.input_names[index]}': expected text, got element {position} "
                    f"that UTF-8 cannot hold: {error.reason}") from None
        elif isinstance(item, bytes):
            PyBytes_AsStringAndSize(item, &data, &size_bytes)
            ref.data = data
        else:
            raise InvalidInput(
                f"input '{plan.input_names[index]}': expected {plan.input_dtypes[index]}, got "
                f"{type_name(item)} as element {position} of an object array")
        ref.size_bytes = size_bytes
        strings.refs.push_back(ref)
    view(tensor[0], STRING, strings.refs.data(), cnp.PyArray_NDIM(array),
         cnp.PyArray_DIMS(array))
    return strings


cdef object type_name(object value):
    return value.__class__.__name__
