"""In-process calls of one row: blocking, and 32 at once as futures or in an event loop."""

from __future__ import annotations

import asyncio

AT_ONCE = 32


def test_infer(side_by_side, model, bench_model) -> None:
    row = bench_model.row
    side_by_side.measure("infer", lambda: model.infer(row))


def test_infer_of_32_rows(side_by_side, model, bench_model) -> None:
    rows = {name: array.repeat(AT_ONCE, axis=0) for name, array in bench_model.row.items()}
    side_by_side.measure(f"infer, {AT_ONCE} rows", lambda: model.infer(rows), requests=AT_ONCE)


def test_submit(side_by_side, model, bench_model) -> None:
    row = bench_model.row

    def burst() -> None:
        for future in [model.submit(row) for _ in range(AT_ONCE)]:
            future.result()

    side_by_side.measure(f"submit x{AT_ONCE}", burst, requests=AT_ONCE)


def test_infer_async(side_by_side, model, bench_model) -> None:
    row = bench_model.row

    async def burst() -> None:
        await asyncio.gather(*(model.infer_async(row) for _ in range(AT_ONCE)))

    with asyncio.Runner() as runner:
        side_by_side.measure(
            f"infer_async x{AT_ONCE}", lambda: runner.run(burst()), requests=AT_ONCE
        )
