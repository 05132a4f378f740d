"""What NVIDIA's driver says of its devices while something is measured."""

from collections.abc import Sequence
from typing import Any

from pyruntime.errors import Unavailable

__all__ = ["GpuWatch"]


class GpuWatch:
    """Samples devices by their number; see Repetition.gpu for what it says.

    Threads: one user at a time.
    """

    def __init__(self, devices: Sequence[int]) -> None:
        """devices: their numbers; none: all of the machine. Raises Unavailable with its reason."""
        try:
            import pynvml
        except ImportError:
            raise Unavailable(
                "GPU figures: nvidia-ml-py is not installed: pip install 'pyruntime[bench]'"
            ) from None
        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
            numbers = devices or range(pynvml.nvmlDeviceGetCount())
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in numbers]
        except pynvml.NVMLError as error:
            raise Unavailable(f"GPU figures: {error}") from None
        if not self._handles:
            raise Unavailable("GPU figures: the driver knows no device")
        self._samples: list[dict[str, float]] = []
        self._energy_j = self._read_energy_j()

    def start(self) -> None:
        """Forget what was seen so far."""
        self._samples = []
        self._energy_j = self._read_energy_j()

    def sample(self) -> None:
        """Look at the devices now."""
        nvml = self._nvml
        seen: dict[str, float] = {}
        readings = {
            "utilization": lambda handle: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            "memory_bytes": lambda handle: nvml.nvmlDeviceGetMemoryInfo(handle).used,
            "sm_clock_mhz": lambda handle: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
        }
        for name, read in readings.items():
            readings_of_all = [self._read(read, handle) for handle in self._handles]
            values = [value for value in readings_of_all if value is not None]
            if values:
                # Memory is that of all; the rest are means over the devices.
                share = 1 if name == "memory_bytes" else len(values)
                seen[name] = float(sum(values)) / share
        self._samples.append(seen)

    def stop(self) -> dict[str, float]:
        """Say what was seen since start(): means, the most memory, the energy used."""
        figures: dict[str, float] = {}
        for name in ("utilization", "memory_bytes", "sm_clock_mhz"):
            values = [sample[name] for sample in self._samples if name in sample]
            if values:
                mean = sum(values) / len(values)
                figures[name] = max(values) if name == "memory_bytes" else mean
        now_j = self._read_energy_j()
        if now_j is not None and self._energy_j is not None:
            figures["energy_j"] = now_j - self._energy_j
        return figures

    def close(self) -> None:
        """Let the driver go."""
        self._nvml.nvmlShutdown()

    def _read_energy_j(self) -> float | None:
        """Of all devices since the driver was loaded; None where it does not count."""
        read = self._nvml.nvmlDeviceGetTotalEnergyConsumption
        values = [self._read(read, handle) for handle in self._handles]
        known = [value for value in values if value is not None]
        return sum(known) / 1e3 if len(known) == len(values) else None

    def _read(self, read: Any, handle: Any) -> float | None:
        try:
            return float(read(handle))
        except self._nvml.NVMLError:
            return None  # not every device has every reading
