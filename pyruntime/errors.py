"""What can go wrong. Each class stands for one error code of the core.

All derive from `PyRuntimeError`; where Python has a class of the same meaning, from that too.
"""

# Named as the core and the protocol name them, without "Error".
# ruff: noqa: N818

from typing import ClassVar

__all__ = [
    "BY_CODE",
    "Cancelled",
    "DeadlineExceeded",
    "EngineError",
    "InvalidInput",
    "ModelNotFound",
    "Overloaded",
    "PyRuntimeError",
    "Unavailable",
    "Unimplemented",
]


class PyRuntimeError(Exception):
    """Base of the errors below.

    code: name of the core's error code, that of the class.
    """

    code: ClassVar[str] = "PyRuntimeError"


class InvalidInput(PyRuntimeError, ValueError):
    """The caller's mistake: a name, dtype, shape, option or file that does not fit."""

    code = "InvalidInput"


class ModelNotFound(PyRuntimeError, LookupError):
    """No such model or version; the message names what there is."""

    code = "ModelNotFound"


class Overloaded(PyRuntimeError):
    """A queue or a memory budget is full; trying later may succeed."""

    code = "Overloaded"


class DeadlineExceeded(PyRuntimeError, TimeoutError):
    """The request's time was up before it ran."""

    code = "DeadlineExceeded"


class Cancelled(PyRuntimeError):
    """The request was given up before it ran."""

    code = "Cancelled"


class Unavailable(PyRuntimeError):
    """Not there now: unloaded, draining, closed, forked, or a library that is absent."""

    code = "Unavailable"


class Unimplemented(PyRuntimeError, NotImplementedError):
    """A feature that this build does not have."""

    code = "Unimplemented"


class EngineError(PyRuntimeError):
    """The model or its engine failed."""

    code = "EngineError"


BY_CODE: dict[str, type[PyRuntimeError]] = {
    error.code: error
    for error in (
        InvalidInput,
        ModelNotFound,
        Overloaded,
        DeadlineExceeded,
        Cancelled,
        Unavailable,
        Unimplemented,
        EngineError,
    )
}
