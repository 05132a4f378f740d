"""Builds the C++ core, its extension modules and the protocol's descriptors.

What is compiled, and how, is in csrc/CMakeLists.txt.

Environment: CMAKE_ARGS (added to the configure command), CMAKE_BUILD_TYPE (Release),
CMAKE_BUILD_PARALLEL_LEVEL (compilers at once).
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def tool(name: str) -> str:
    """Path of `name` (cmake or ninja): the wheel of that name, else what PATH holds."""
    try:
        module = __import__(name)
        folder = Path(getattr(module, "CMAKE_BIN_DIR", None) or module.BIN_DIR)
        if (folder / name).exists():
            return str(folder / name)
    except (ImportError, AttributeError):
        pass
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"{name}: expected on PATH or as a wheel, found neither")
    return found


class BuildNative(build_ext):
    """Runs CMake, and installs what it built into the package's folder."""

    def run(self) -> None:
        """Build into the package's folder: the sources' own when it is editable."""
        package = ROOT if self.inplace else Path(self.build_lib).resolve()
        self._install(package / "pyruntime")

    def get_outputs(self) -> list[str]:
        """Files that were installed, beside the Python sources."""
        return [str(path) for path in self._installed]

    def get_output_mapping(self) -> dict[str, str]:
        """Nothing here is copied from the source tree."""
        return {}

    _installed: tuple[Path, ...] = ()

    def _install(self, package: Path) -> None:
        build = ROOT / "build" / f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"
        build_type = os.environ.get("CMAKE_BUILD_TYPE", "Release")
        cmake = tool("cmake")
        # --fresh: under build isolation every path to a tool is new each time.
        configure = [cmake, "--fresh", "-S", ROOT / "csrc", "-B", build, "-G", "Ninja"]
        configure += [f"-D{name}={value}" for name, value in self._definitions(build_type).items()]
        configure += shlex.split(os.environ.get("CMAKE_ARGS", ""))
        run(configure)
        run([cmake, "--build", build])

        # Headers that are gone from csrc/ must not linger.
        shutil.rmtree(package / "include", ignore_errors=True)
        strip = ["--strip"] if build_type in ("Release", "MinSizeRel") else []
        run([cmake, "--install", build, "--prefix", package, *strip])
        manifest = (build / "install_manifest.txt").read_text(encoding="utf-8")
        descriptors = compile_protocols(package / "frontends")
        self._installed = (*map(Path, manifest.splitlines()), *descriptors)

    def _definitions(self, build_type: str) -> dict[str, str]:
        import numpy
        import pybind11

        return {
            "CMAKE_BUILD_TYPE": build_type,
            "CMAKE_MAKE_PROGRAM": tool("ninja"),
            "NUMPY_INCLUDE_DIR": numpy.get_include(),
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            # A later compiler's new warning must not break somebody's install.
            "PYRUNTIME_WARNINGS_ARE_ERRORS": "OFF",
        }


class BuildPython(build_py):
    """Copies the Python sources into a folder that holds nothing from an earlier build."""

    def run(self) -> None:
        """Start from an empty folder."""
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib) / "pyruntime", ignore_errors=True)
        super().run()


def compile_protocols(folder: Path) -> list[Path]:
    """Compile each proto/*.proto into a FileDescriptorSet.

    The front end loads them into a pool of its own: generated modules would clash with those
    that clients of the same protocol register in the default pool.
    """
    folder.mkdir(parents=True, exist_ok=True)
    compiled = []
    for source in sorted((ROOT / "proto").glob("*.proto")):
        target = folder / f"{source.stem}.binpb"
        protoc = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={source.parent}"]
        run([*protoc, "--include_imports", f"--descriptor_set_out={target}", source.name])
        compiled.append(target)
    return compiled


def run(command: list[str | Path]) -> None:
    """Run `command`, or end with its exit status."""
    words = [str(word) for word in command]
    print("$", shlex.join(words), flush=True)
    try:
        subprocess.run(words, check=True)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{words[0]}: exit status {error.returncode}") from None


setup(
    ext_modules=[Extension(f"pyruntime.{name}", []) for name in ("_core", "_hot", "_probe")],
    cmdclass={"build_ext": BuildNative, "build_py": BuildPython},
)
