"""`pyruntime infer`: one request to any server of the Open Inference Protocol."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyruntime.errors import InvalidInput, Unimplemented

if TYPE_CHECKING:
    from argparse import Namespace

    from pyruntime.client import Answer, Array, ClientTls

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_EXAMPLES = """examples:
  pyruntime infer 127.0.0.1:8001 digits --metadata
  pyruntime infer 127.0.0.1:8001 digits --random --rows 4
  pyruntime infer 127.0.0.1:8001 scorer --input 'x=[[1.5, 2, 3]]' --input 'name=["ann"]'
  pyruntime infer unix:/run/pyruntime.sock scorer --input x=@rows.npy --json
"""


def add_parser(commands: Commands) -> None:
    """Add this command's parser."""
    parser = commands.add_parser(
        "infer",
        help="send one request to a server",
        description="Sends one request over gRPC to any server that speaks the Open Inference "
        "Protocol, version 2, and prints the outputs.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("address", metavar="ADDRESS", help="HOST:PORT or unix:PATH")
    parser.add_argument("model", metavar="MODEL", help="the model's name")
    parser.add_argument("--version", metavar="N", default="", help="default: the server's choice")
    parser.add_argument(
        "--metadata", action="store_true", help="print the model's inputs and outputs instead"
    )
    parser.add_argument(
        "--input",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="VALUE is JSON, @FILE.npy, or @FILE.npz (its array of that name); may be given again",
    )
    parser.add_argument(
        "--output", metavar="NAME", action="append", default=[], help="default: all outputs"
    )
    parser.add_argument(
        "--random", action="store_true", help="fill the inputs that are not given at random"
    )
    parser.add_argument(
        "--rows",
        metavar="N",
        type=int,
        default=1,
        help="of random inputs, where the first dimension is free. Default: %(default)s",
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of random inputs")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=60.0,
        help="default: %(default)g",
    )
    tls = parser.add_argument_group("TLS")
    tls.add_argument("--tls", action="store_true", help="with the system's certificates")
    tls.add_argument("--tls-ca", metavar="FILE", type=Path, help="PEM, to check the server by")
    tls.add_argument("--tls-cert", metavar="FILE", type=Path, help="PEM, of this client")
    tls.add_argument("--tls-key", metavar="FILE", type=Path, help="PEM, of this client")
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Ask, and print."""
    # What is wrong with the arguments shows before the server is asked.
    given = dict(_split(text) for text in args.input)

    from pyruntime.client import Client
    from pyruntime.frontends.address import parse_address

    parse_address(args.address)
    with Client(args.address, tls=_tls(args)) as client:
        try:
            metadata = client.metadata(args.model, args.version, timeout_s=args.timeout)
        except Unimplemented:
            if args.metadata or args.random:
                raise
            metadata = None
        if args.metadata:
            _print_metadata(metadata, as_json=args.json)
            return 0
        inputs = _inputs(args, given, metadata)
        begin = time.perf_counter()
        answer = client.infer(
            args.model, inputs, version=args.version, outputs=args.output, timeout_s=args.timeout
        )
        _print_answer(answer, time.perf_counter() - begin, as_json=args.json)
    return 0


def _split(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidInput(f"--input {text!r}: expected NAME=JSON or NAME=@FILE")
    return name, value


def _inputs(args: Namespace, given: dict[str, str], metadata: Any) -> dict[str, Array]:
    specs = {spec.name: spec for spec in metadata.inputs} if metadata else {}
    arrays: dict[str, Array] = {}
    for name, value in given.items():
        if specs and name not in specs:
            known = ", ".join(map(repr, specs))
            raise InvalidInput(f"--input {name}: expected one of {known}, got {name!r}")
        datatype = specs[name].datatype if specs else None
        arrays[name] = _read(name, value, datatype)
    missing = [name for name in specs if name not in arrays]
    if missing and not args.random:
        spec = specs[missing[0]]
        raise InvalidInput(
            f"input {spec.name!r}: expected {spec.datatype}{_shape(spec.shape)}, got nothing; "
            f"give --input {spec.name}=JSON, or --random"
        )
    rng = np.random.default_rng(args.seed)
    for name in missing:
        arrays[name] = _random(rng, specs[name], args.rows)
    return arrays


def _read(name: str, value: str, datatype: str | None) -> Array:
    """Read JSON or a file into an array of the model's datatype (None: unknown)."""
    from pyruntime.client import DTYPES

    if value.startswith("@"):
        return _read_file(name, Path(value[1:]))
    try:
        parsed = json.loads(value)
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"--input {name}: expected JSON or @FILE, got {value!r}: {error}"
        ) from None
    try:
        if datatype == "BYTES":
            return np.array(parsed, dtype=object)
        if datatype in DTYPES:
            return _exactly(np.array(parsed), DTYPES[datatype])
        array = np.array(parsed)
    except (ValueError, TypeError) as error:
        raise InvalidInput(
            f"--input {name}: expected {datatype or 'an array'}, got {value}: {error}"
        ) from None
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _exactly(array: Array, dtype: np.dtype[Any]) -> Array:
    """Convert `array` to `dtype`; only the rounding of fractions is allowed."""
    kinds = {"i": "iu", "u": "iu", "f": "iuf", "b": "b"}[dtype.kind]
    if array.size and array.dtype.kind not in kinds:
        raise ValueError(f"{array.dtype} is not {dtype}")
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise ValueError(f"out of range of {dtype}")
    return array.astype(dtype)


def _read_file(name: str, path: Path) -> Array:
    try:
        loaded = np.load(path, allow_pickle=False)
    except OSError as error:
        raise InvalidInput(f"--input {name}: {path}: {error.strerror or error}") from None
    except (ValueError, EOFError) as error:
        raise InvalidInput(f"--input {name}: {path}: expected .npy or .npz: {error}") from None
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        if name not in loaded:
            held = ", ".join(map(repr, loaded.files))
            raise InvalidInput(f"--input {name}: {path}: expected {name!r}, got {held}")
        array: Array = loaded[name]
        return array


def _random(rng: np.random.Generator, spec: Any, rows: int) -> Array:
    from pyruntime.client import DTYPES

    shape = [size if size >= 0 else 1 for size in spec.shape]
    if spec.shape and spec.shape[0] < 0:
        shape[0] = rows
    if spec.datatype not in DTYPES:
        raise InvalidInput(f"input {spec.name!r}: cannot make random {spec.datatype}; give --input")
    dtype = DTYPES[spec.datatype]
    if dtype.kind == "O":
        return np.array([f"text {i}" for i in rng.integers(0, 100, shape).flat], object).reshape(
            shape
        )
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, 2 if dtype.kind == "b" else 10, shape).astype(dtype)


def _print_metadata(metadata: Any, *, as_json: bool) -> None:
    if as_json:
        from google.protobuf import json_format

        print(json_format.MessageToJson(metadata, preserving_proto_field_name=True))
        return
    from pyruntime.commands.table import table

    versions = ", ".join(metadata.versions) or "-"
    print(f"{metadata.name}, versions {versions}, {metadata.platform}")
    rows = [
        (kind, tensor.name, tensor.datatype, _shape(tensor.shape))
        for kind, tensors in (("input", metadata.inputs), ("output", metadata.outputs))
        for tensor in tensors
    ]
    print(table(rows, header=("", "NAME", "DATATYPE", "SHAPE")))


def _print_answer(answer: Answer, seconds: float, *, as_json: bool) -> None:
    if as_json:
        outputs = [
            {
                "name": name,
                "datatype": answer.datatypes[name],
                "shape": list(array.shape),
                "data": [_plain(value) for value in array.ravel().tolist()],
            }
            for name, array in answer.outputs.items()
        ]
        head = {"model_name": answer.model, "model_version": answer.version}
        print(json.dumps({**head, "outputs": outputs}))
        return
    version = f" version {answer.version}" if answer.version else ""
    print(f"{answer.model}{version}, {seconds * 1000:.1f} ms")
    for name, array in answer.outputs.items():
        print(f"{name}: {answer.datatypes[name]}{_shape(array.shape)}")
        shown = np.vectorize(_plain, otypes=[object])(array) if array.dtype == object else array
        text = np.array2string(shown, precision=4, suppress_small=True, threshold=200, edgeitems=4)
        print("  " + text.replace("\n", "\n  "))


def _plain(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _shape(shape: Any) -> str:
    return "[" + ", ".join("*" if size < 0 else str(size) for size in shape) + "]"


def _tls(args: Namespace) -> ClientTls | None:
    from pyruntime.client import ClientTls

    if not (args.tls or args.tls_ca or args.tls_cert or args.tls_key):
        return None
    if (args.tls_cert is None) != (args.tls_key is None):
        raise InvalidInput("TLS: expected both --tls-cert and --tls-key, or neither")
    return ClientTls(args.tls_ca, args.tls_cert, args.tls_key)
