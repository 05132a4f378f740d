"""What is in the package, what importing it costs, and which floor may see which."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import pyruntime

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(pyruntime.__file__).parent
FLOORS = ["base", "memory", "engine", "schedule", "serving", "wire"]

# Heavy or optional: imported where they are used, not with the package.
NOT_IMPORTED = {
    *("cupy", "google.protobuf", "grpc", "matplotlib", "onnx", "onnxruntime", "pandas", "rich"),
    *("tomlkit", "torch", "tritonclient"),
}


def python(code: str) -> str:
    """What `code` prints in a new interpreter."""
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


# Importing


def test_import_brings_little_beyond_numpy() -> None:
    # How long it takes depends on the machine: benchmarks/bench_import.py.
    code = (
        "import __future__, atexit, copy, dataclasses, json, pathlib, sys, threading, numpy;"
        "before = set(sys.modules); import pyruntime;"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    others = {name for name in json.loads(python(code)) if not name.startswith("pyruntime")}
    assert not {name for name in others if "cython" not in name}


def test_import_leaves_heavy_modules_alone() -> None:
    code = "import json, sys, pyruntime; print(json.dumps(sorted(sys.modules)))"
    assert NOT_IMPORTED.isdisjoint(json.loads(python(code)))


# Public names


def test_all_holds_what_exists_sorted_and_once() -> None:
    assert pyruntime.__all__ == sorted(set(pyruntime.__all__))
    missing = [name for name in pyruntime.__all__ if not hasattr(pyruntime, name)]
    assert not missing


def test_all_holds_every_public_name() -> None:
    public = {
        name
        for name, value in vars(pyruntime).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    imported_for_use = {
        name
        for name in public
        if (
            getattr(inspect.getmodule(getattr(pyruntime, name)), "__name__", "pyruntime")
        ).partition(".")[0]
        not in ("pyruntime",)
    }
    assert public - imported_for_use <= set(pyruntime.__all__)


def submodules_with_all() -> list[str]:
    """Modules of the sources that state their exports."""
    names = []
    for path in sorted((ROOT / "pyruntime").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        targets = [t for n in tree.body if isinstance(n, ast.Assign) for t in n.targets]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            parts = path.relative_to(ROOT).with_suffix("").parts
            names.append(".".join(part for part in parts if part != "__init__"))
    return names


@pytest.mark.parametrize("name", submodules_with_all())
def test_every_module_exports_what_its_all_says(name: str) -> None:
    module = importlib.import_module(name)
    assert len(module.__all__) == len(set(module.__all__))
    assert not [export for export in module.__all__ if not hasattr(module, export)]


# Import directions


def includes(path: Path) -> list[str]:
    """What `path` includes, in either form of quotes."""
    return re.findall(r'^\s*#\s*include\s*["<]([^">]+)[">]', path.read_text(encoding="utf-8"), re.M)


def sources(folder: Path) -> list[Path]:
    """C++ files under `folder`."""
    return sorted([*folder.rglob("*.h"), *folder.rglob("*.cc")])


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_includes_only_floors_below(floor: str) -> None:
    allowed = FLOORS[: FLOORS.index(floor) + 1]
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(ROOT / "csrc" / floor)
        for name in includes(path)
        if "/" in name and name.partition("/")[0] in {*FLOORS, "bindings"} - {*allowed}
    ]
    assert not wrong


@pytest.mark.parametrize("floor", FLOORS)
def test_a_house_header_is_included_by_its_path_from_csrc(floor: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(ROOT / "csrc" / floor)
        for name in re.findall(r'#include "([^"]+)"', path.read_text(encoding="utf-8"))
        if not (ROOT / "csrc" / name).is_file()
    ]
    assert not wrong


def test_only_bindings_see_python() -> None:
    python_headers = re.compile(r"Python\.h|pybind11/|numpy/|nanobind/")
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for floor in FLOORS
        for path in sources(ROOT / "csrc" / floor)
        for name in includes(path)
        if python_headers.match(name)
    ]
    assert not wrong


def test_the_base_stands_on_the_standard_library_alone() -> None:
    other = re.compile(r"onnx|cuda|grpc|google/|nghttp2")
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(ROOT / "csrc" / "base")
        for name in includes(path)
        if other.match(name)
    ]
    assert not wrong


# What is installed


def test_the_core_and_its_modules_lie_side_by_side() -> None:
    names = {path.name for path in PACKAGE.glob("*.so")}
    assert "libpyruntime.so" in names
    stems = {name.partition(".")[0] for name in names}
    assert stems == {"libpyruntime", "_core", "_hot", "_probe"}


def test_types_are_shipped() -> None:
    assert (PACKAGE / "py.typed").is_file()
    assert (PACKAGE / "_core.pyi").is_file()
    assert (PACKAGE / "_hot.pyi").is_file()
    assert (PACKAGE / "_probe.pyi").is_file()


def test_the_protocol_is_shipped() -> None:
    for name in ("inference", "management"):
        assert (PACKAGE / "frontends" / f"{name}.binpb").stat().st_size > 0


def test_headers_are_shipped_as_they_are_in_the_sources() -> None:
    installed = Path(pyruntime.get_include())
    headers = [path for floor in FLOORS for path in (ROOT / "csrc" / floor).rglob("*.h")]
    assert headers
    differing = [
        str(path.relative_to(ROOT))
        for path in headers
        if (installed / path.relative_to(ROOT / "csrc")).read_bytes() != path.read_bytes()
    ]
    assert not differing
    assert not (installed / "bindings").exists()


def test_the_library_is_where_it_is_said_to_be() -> None:
    assert Path(pyruntime.get_library()) == PACKAGE / "libpyruntime.so"
    assert Path(pyruntime.get_library()).is_file()


def test_every_python_source_is_installed() -> None:
    wanted = {path.relative_to(ROOT / "pyruntime") for path in (ROOT / "pyruntime").rglob("*.py")}
    assert not {str(path) for path in wanted if not (PACKAGE / path).is_file()}


def test_nothing_but_the_package_is_installed() -> None:
    if PACKAGE == ROOT / "pyruntime":
        pytest.skip("an editable install has the whole tree beside it")
    suffixes = {".cc", ".cpp", ".pyx", ".pxd", ".proto", ".a", ".o"}
    assert not [str(path) for path in PACKAGE.rglob("*") if path.suffix in suffixes]
    record = subprocess.run(
        [sys.executable, "-m", "pip", "show", "--files", "pyruntime"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.partition("Files:\n")[2]
    tops = {line.strip().partition("/")[0] for line in record.splitlines()}
    tops = {top for top in tops if not top.endswith(".dist-info") and top != ".."}
    assert tops == {"pyruntime"}


def test_the_package_is_small() -> None:
    size_bytes = sum(
        path.stat().st_size
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    assert size_bytes < 20e6
