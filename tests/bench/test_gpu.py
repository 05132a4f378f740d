"""GPU figures, from a driver's module that is not the real one: there is no GPU here."""

from __future__ import annotations

import sys
import types

import pytest

from pyruntime.bench.gpu import GpuWatch
from pyruntime.errors import Unavailable


class NVMLError(Exception):
    """As nvidia-ml-py's."""


class FakeDriver(types.ModuleType):
    """As much of pynvml as is used, with two devices."""

    NVMLError = NVMLError
    NVML_CLOCK_SM = 1

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.utilization = {0: 50, 1: 100}
        self.memory = {0: 1000, 1: 3000}
        self.energy_mj = {0: 5000, 1: 1000}
        self.has_energy = True
        self.is_open = False

    def nvmlInit(self):  # noqa: N802
        self.is_open = True

    def nvmlShutdown(self):  # noqa: N802
        self.is_open = False

    def nvmlDeviceGetCount(self):  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, number):  # noqa: N802
        if number not in self.memory:
            raise NVMLError("Invalid Argument")
        return number

    def nvmlDeviceGetUtilizationRates(self, handle):  # noqa: N802
        return types.SimpleNamespace(gpu=self.utilization[handle])

    def nvmlDeviceGetMemoryInfo(self, handle):  # noqa: N802
        return types.SimpleNamespace(used=self.memory[handle])

    def nvmlDeviceGetClockInfo(self, handle, kind):  # noqa: N802
        raise NVMLError("Not Supported")

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        if not self.has_energy:
            raise NVMLError("Not Supported")
        return self.energy_mj[handle]


@pytest.fixture
def driver(monkeypatch) -> FakeDriver:
    fake = FakeDriver()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_means_the_most_memory_and_the_energy_between(driver: FakeDriver) -> None:
    watch = GpuWatch([1])
    watch.start()
    watch.sample()
    driver.utilization[1], driver.memory[1], driver.energy_mj[1] = 0, 2000, 3500
    watch.sample()
    # The clock is not supported by this one, and so left out.
    assert watch.stop() == {"utilization": 0.5, "memory_bytes": 3000.0, "energy_j": 2.5}
    watch.close()
    assert not driver.is_open


def test_of_all_devices_memory_and_energy_are_sums(driver: FakeDriver) -> None:
    watch = GpuWatch([])
    watch.start()
    watch.sample()
    driver.energy_mj[0] += 1000
    assert watch.stop() == {"utilization": 0.75, "memory_bytes": 4000.0, "energy_j": 1.0}


def test_a_device_that_does_not_count_energy_says_none(driver: FakeDriver) -> None:
    driver.has_energy = False
    watch = GpuWatch([0])
    watch.start()
    assert watch.stop() == {}


def test_what_is_absent_is_said(driver: FakeDriver, monkeypatch) -> None:
    with pytest.raises(Unavailable, match="GPU figures: Invalid Argument"):
        GpuWatch([7])
    monkeypatch.setattr(driver, "nvmlDeviceGetCount", lambda: 0)
    with pytest.raises(Unavailable, match="the driver knows no device"):
        GpuWatch([])
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(Unavailable, match=r"pip install 'pyruntime\[bench\]'"):
        GpuWatch([0])
