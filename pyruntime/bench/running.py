"""`run`: measures the grid that is asked for, one point after the other."""

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyruntime.bench.events import OnEvent
from pyruntime.bench.files import write_results
from pyruntime.bench.find_rate import Slo
from pyruntime.bench.grid import Grid
from pyruntime.bench.grid_run import measure_plan
from pyruntime.bench.how import How
from pyruntime.bench.plan import ClientOptions, Plan, Values
from pyruntime.bench.request_inputs import read_npz
from pyruntime.bench.results import Results
from pyruntime.bench.rounds import measure_rounds
from pyruntime.bench.servers import Address
from pyruntime.bench.subjects import find_subjects
from pyruntime.bench.tensors import Array
from pyruntime.config import ModelOptions

__all__ = ["run"]


def run(
    model: str | os.PathLike[str],
    *,
    target: str = "inproc",
    scenarios: Sequence[str] = (),
    rows: Sequence[int] = (1,),
    concurrency: Sequence[int] = (),
    rates: Sequence[float] = (),
    slo: str | None = None,
    devices: Sequence[str] = (),
    providers: Sequence[str] = (),
    threads: Sequence[int] = (),
    instances: Sequence[int] = (),
    max_rows: Sequence[int | str] = (),
    names: Sequence[str] = (),
    options: ModelOptions | None = None,
    inputs: str | os.PathLike[str] | Mapping[str, Array] | None = None,
    zeros: bool = False,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    seconds: float = 10.0,
    figure: str = "p50_us",
    within: float = 0.03,
    repetition_s: float | None = None,
    rounds: int = 1,
    client_threads: int = 1,
    connections: int = 1,
    patience_s: float = 60.0,
    tls_ca: str | os.PathLike[str] | None = None,
    tls_cert: str | os.PathLike[str] | None = None,
    tls_key: str | os.PathLike[str] | None = None,
    typed_contents: bool = False,
    service: str | None = None,
    save: str | os.PathLike[str] | None = None,
    command: Sequence[str] = (),
    on_event: OnEvent | None = None,
) -> Results:
    """Measure every combination of what is given, and return what was seen.

    model: path of an .onnx file or of a repository; the name on the server will do for one.
    target: "inproc", or "grpc://HOST:PORT", "grpcs://HOST:PORT" (TLS) or "grpc://unix:PATH" of any
        server of the Open Inference Protocol, version 2.
    scenarios: of pyruntime.bench.results.SCENARIOS; by default "open" where rates or an slo are
        given, else "closed".
    rows: of each request. concurrency: requests in flight, or samples of a query.
    rates: arrivals per second of the open scenarios. slo: such as "p99=10ms": the highest rate
        that keeps it is searched for.
    devices, providers, threads, instances, max_rows: how the model is loaded in this process;
        by default as `options` or the model.toml of the repository say.
    names: models of the repository, all by default; or what the server calls the file's model.
    inputs: arrays by name or an .npz file; what is not given is random, or zeros if asked for.
    dims: sizes of dynamic dimensions other than the rows, by symbol or as "INPUT.AXIS".
    seconds: for each point. It ends earlier when the interval of `figure` is `within` of its
        median to either side. repetition_s: of each repetition.
    rounds: processes, one after the other, that each load and measure everything; the intervals
        are then those of the rounds.
    client_threads, connections (of each): of the generator over gRPC; patience_s: without any
        answer, after which a server is given up. tls_ca, tls_cert, tls_key: PEM files for grpcs://.
        typed_contents: send values in the protocol's typed lists, for servers without raw ones.
        service: of a server that has its own name for inference.GRPCInferenceService.
    save: a file that is written as it goes, so that what was measured is kept.
    on_event: is told what happens, on this thread; see pyruntime.bench.events.

    Raises InvalidInput, Unavailable (no server there, a package that is absent). A point that
    cannot be measured is in `skipped` with its reason, one that ended early is not complete.
    """
    address = None if target == "inproc" else Address.parse(target)
    plan = Plan(
        target=target,
        subjects=tuple(
            find_subjects(model, options=options, names=names, is_remote=address is not None)
        ),
        grid=Grid(
            scenarios=tuple(scenarios),
            rows=tuple(rows),
            concurrency=tuple(concurrency),
            rates=tuple(rates),
            slo=Slo.parse(slo) if slo is not None else None,
            devices=tuple(devices),
            providers=tuple(providers),
            threads=tuple(threads),
            instances=tuple(instances),
            max_rows=tuple(max_rows),
        ),
        how=How(seconds, figure, within, repetition_s, seed),
        values=_values(inputs, dims or {}, is_zeros=zeros),
        client=ClientOptions(
            threads=client_threads,
            connections=connections,
            patience_s=patience_s,
            ca=_path(tls_ca),
            certificate=_path(tls_cert),
            key=_path(tls_key),
            is_typed=typed_contents,
            service=service,
        ),
        rounds=rounds,
    )
    plan.check()
    plan.client.check(is_tls=address is not None and address.is_tls)
    plan.grid.check(is_inproc=plan.is_inproc)
    measure = measure_plan if plan.rounds == 1 else measure_rounds
    return measure(
        plan,
        command=tuple(command),
        save=None if save is None else functools.partial(write_results, path=save),
        on_event=on_event or (lambda _: None),
    )


def _values(
    inputs: str | os.PathLike[str] | Mapping[str, Array] | None,
    dims: Mapping[str, int],
    *,
    is_zeros: bool,
) -> Values:
    if inputs is None:
        return Values({}, dict(dims), is_zeros, "zeros" if is_zeros else "random")
    if isinstance(inputs, Mapping):
        return Values(dict(inputs), dict(dims), is_zeros, "arrays")
    return Values(read_npz(inputs), dict(dims), is_zeros, Path(inputs).name)


def _path(file: str | os.PathLike[str] | None) -> Path | None:
    return None if file is None else Path(file)
