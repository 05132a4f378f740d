"""Texts of unequal lengths in one batch of a model that masks what is padded."""

import asyncio

import numpy as np
import pytest
from models_for_tests import path_of, reference

from pyruntime import Batching, InvalidInput, ModelOptions, Padding, Runtime

MODEL = path_of("text_encoder")


def text(length: int, seed: int, rows: int = 1) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(seed).integers(0, 64, (rows, length))
    return {"ids": ids, "mask": np.ones_like(ids)}


def options(**padding) -> ModelOptions:
    return ModelOptions(batching=Batching(padding=(Padding("sequence", **padding),)))


def check(inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> None:
    expected = reference("text_encoder", inputs)
    for name, array in expected.items():
        np.testing.assert_allclose(outputs[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def ask_all(model, texts):
    async def ask():
        return await asyncio.gather(*(model.infer_async(one) for one in texts))

    return asyncio.run(ask())


def test_padded_texts_share_batches_and_get_the_answers_of_each_alone():
    with Runtime() as runtime:
        batching = Batching(padding=(Padding("sequence"),), max_delay_us=50_000)
        model = runtime.load("encoder", MODEL, options=ModelOptions(batching=batching))
        texts = [text(5 + seed % 4, seed, rows=1 + seed % 2) for seed in range(60)]
        for inputs, outputs in zip(texts, ask_all(model, texts), strict=True):
            assert outputs["tokens"].shape == (*inputs["ids"].shape, 8)
            check(inputs, outputs)
        stats = model.stats()
        assert {cost.shapes for cost in stats.costs} == {((8,), (8,))}
        assert stats.batches < 60
        assert stats.accepted == stats.completed == 60


def test_unequal_lengths_never_share_a_batch_where_nothing_is_padded():
    with Runtime() as runtime:
        model = runtime.load("encoder", MODEL)
        texts = [text(5 + seed % 4, seed) for seed in range(20)]
        for inputs, outputs in zip(texts, ask_all(model, texts), strict=True):
            check(inputs, outputs)
        lengths = {cost.shapes[0] for cost in model.stats().costs}
        assert lengths == {(5,), (6,), (7,), (8,)}


def test_a_text_that_is_too_long_only_when_padded_is_answered():
    with Runtime() as runtime:
        # The model has 24 positions; its texts of 21 would be padded to 32, then to 24.
        model = runtime.load("encoder", MODEL, options=options())
        for length in (21, 24, 22):
            check(text(length, length), model.infer(text(length, length)))
        limited = runtime.load("limited", MODEL, options=options(largest=24))
        texts = [text(17 + seed % 8, seed) for seed in range(16)]
        for inputs, outputs in zip(texts, ask_all(limited, texts), strict=True):
            check(inputs, outputs)
        assert limited.stats().failed == 0


def test_warm_up_runs_every_given_size():
    with Runtime() as runtime:
        model = runtime.load("encoder", MODEL, options=options(sizes=[8, 24]))
        model.warm_up(rows=2, runs=1)
        assert {cost.shapes[0] for cost in model.stats().costs} == {(8,), (24,)}


def test_inputs_that_disagree_about_the_length_are_refused():
    with Runtime() as runtime:
        model = runtime.load("encoder", MODEL, options=options())
        with pytest.raises(InvalidInput, match=r"'mask': expected 5 along 'sequence'.* got 6"):
            model.infer({**text(5, 0), "mask": np.ones((1, 6), np.int64)})


@pytest.mark.parametrize(
    ("padding", "message"),
    [
        ({"dim": ""}, "Padding.dim: expected a text"),
        ({"dim": "sequence", "value": "x"}, "Padding.value: expected a number"),
        ({"dim": "sequence", "sizes": [8, 4]}, "Padding.sizes: expected ascending"),
        ({"dim": "sequence", "sizes": [0]}, "Padding.sizes: expected ascending"),
        ({"dim": "sequence", "largest": -1}, "Padding.largest: expected an int"),
        ({"dim": "sequence", "values": {"ids": None}}, "Padding.values: expected a mapping"),
        ({"dim": "sequence", "size": 4}, "expected keys among 'dim'"),
    ],
)
def test_bad_options_are_refused_by_name(padding, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        ModelOptions.from_mapping({"batching": {"padding": [padding]}}, where="model.toml")
    assert str(caught.value).startswith("model.toml: batching: padding[0]: ")


def test_a_dimension_that_the_model_lacks_is_refused_with_those_it_has():
    with Runtime() as runtime, pytest.raises(InvalidInput, match=r"'width'.*\('sequence'\)"):
        runtime.load(
            "encoder", MODEL, options=ModelOptions(batching=Batching(padding=(Padding("width"),)))
        )
