"""In-process calls of one row: blocking, and 32 at once as futures or in an event loop.

At once: in bursts, each awaited whole, or by callers who ask again as soon as they are answered.
"""

from __future__ import annotations

import asyncio

AT_ONCE = 32
CALLS = 16  # of each caller in a row


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


def test_infer_async_in_a_loop(side_by_side, model, bench_model) -> None:
    row = bench_model.row

    async def caller() -> None:
        for _ in range(CALLS):
            await model.infer_async(row)

    async def callers() -> None:
        await asyncio.gather(*(caller() for _ in range(AT_ONCE)))

    with asyncio.Runner() as runner:
        side_by_side.measure(
            f"infer_async, {AT_ONCE} callers",
            lambda: runner.run(callers()),
            requests=AT_ONCE * CALLS,
        )
