"""Requests as they travel over gRPC, serialised once and sent again and again."""

from collections.abc import Sequence
from typing import Any

from pyruntime import _core
from pyruntime.bench.tensors import Array, Inputs
from pyruntime.errors import InvalidInput
from pyruntime.tensors import TensorSpec

__all__ = ["request_bytes"]


def request_bytes(
    model: str,
    version: str,
    specs: Sequence[TensorSpec],
    inputs: Inputs,
    *,
    is_typed: bool = False,
) -> bytes:
    """A ModelInferRequest with raw contents, or with the typed lists of the protocol.

    Raises InvalidInput for a datatype that has no typed list.
    """
    from pyruntime.frontends import protocol

    request = protocol.message_class("ModelInferRequest")(model_name=model, model_version=version)
    for spec in specs:
        array = inputs[spec.name]
        datatype = _core.data_type_protocol_name(spec.dtype)
        tensor = request.inputs.add(name=spec.name, datatype=datatype, shape=array.shape)
        if is_typed:
            _add_typed(tensor.contents, datatype, array, spec.name)
        else:
            request.raw_input_contents.append(_to_raw(array))
    data: bytes = request.SerializeToString()
    return data


def _add_typed(contents: Any, datatype: str, array: Array, name: str) -> None:
    from pyruntime.client import TYPED_FIELDS

    if datatype not in TYPED_FIELDS:
        raise InvalidInput(
            f"input '{name}': the protocol has no typed list for {datatype}, which travels as raw "
            "bytes only"
        )
    values = [text.encode() for text in array.flat] if array.dtype == object else array.ravel()
    getattr(contents, TYPED_FIELDS[datatype]).extend(values)


def _to_raw(array: Array) -> bytes:
    if array.dtype != object:
        return array.tobytes()
    texts = [text.encode() for text in array.flat]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
