"""Whatever a model.toml holds, a repository says so in one line and serves what it served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repositories import add

from pyruntime import PyRuntimeError
from pyruntime.config.files import model_config_from_mapping, read_model_config
from pyruntime.errors import InvalidInput
from pyruntime.repository import ModelRepository

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyruntime.config.model import ModelConfig

TABLES = {
    "versions": ("latest", "all", "specific", "keep"),
    "warm_up": ("rows", "data", "shapes", "tensors", "recorded", "runs", "limit_s"),
    "memory": ("on_demand", "evict"),
    "batching": ("max_rows", "max_delay_us", "queue_capacity", "padding"),
    "labels": ("stable", "", "1", "a b"),
    "route": ("policy", "version", "label", "shares", "arms", "salt"),
}
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    table = draw(
        st.sampled_from([*TABLES, "instances", "providers", "engine", "config", "nonsense"])
    )
    if table not in TABLES or draw(st.booleans()):
        return {table: draw(VALUES)}
    return {table: {draw(st.sampled_from(TABLES[table])): draw(VALUES)}}


def complaint(read: Callable[[], ModelConfig]) -> str | None:
    """Give the message of the one error that is allowed, None where there is none."""
    try:
        read()
    except InvalidInput as error:
        return str(error)
    return None


@settings(deadline=None, max_examples=400)
@given(configurations())
def test_any_mapping_is_a_configuration_or_an_error_of_one_line(mapping: dict[str, Any]) -> None:
    said = complaint(lambda: model_config_from_mapping(mapping, where="m/model.toml"))
    assert said is None or (said.startswith("m/model.toml: ") and "\n" not in said)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60))
def test_any_file_is_a_configuration_or_an_error_of_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "model.toml"
    path.write_bytes(data)
    said = complaint(lambda: read_model_config(path))
    assert said is None or (said.startswith(f"{path}: ") and "\n" not in said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[versions]\nlatest = 0", "versions: Versions.latest: expected an int of at least 1"),
        ("[versions]\nlatest = 1\nall = true", "only one of latest, all and specific"),
        ("[versions]\nkeeps = 1", "expected keys among 'latest', 'all', 'specific', 'keep'"),
        ("versions = 3", "versions: expected a table, got 3"),
        ("[warm_up]\ndata = ['ones']", "expected 'zeros' or 'random', got ('ones',)"),
        ("[warm_up]\nrows = [0]", 'a list of ints of at least 1 or "auto"'),
        ("[labels]\nstable = 'three'", "labels"),
        ("[memory]\nevict = 1", "Memory.evict: expected a bool, got 1"),
        ("[route]\npolicy = 'none'", "route: policy: expected one of"),
        ("[batching", "expected TOML, got an error"),
    ],
)
def test_a_mistake_disturbs_nothing_and_is_named(tmp_path: Path, text: str, said: str) -> None:
    add(tmp_path, "m", 1)
    with ModelRepository(tmp_path) as repository:
        model = repository.runtime.model("m", 1)
        (tmp_path / "m" / "model.toml").write_text(text)
        with pytest.raises(PyRuntimeError) as caught:
            repository.load("m")
        assert said in str(caught.value)
        assert "m/model.toml: " in str(caught.value)
        assert "\n" not in str(caught.value)
        assert model.is_ready
