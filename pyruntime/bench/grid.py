"""The points that a run measures: every combination of what was asked for."""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyruntime.bench.find_rate import Slo
from pyruntime.bench.results import SCENARIOS, Configuration
from pyruntime.config import InstanceGroup, ModelOptions, ProviderOptions
from pyruntime.errors import InvalidInput

__all__ = ["Grid", "Placement"]

_SAMPLES_OF_A_QUERY = 8  # of MLPerf's MultiStream


@dataclass(frozen=True, slots=True)
class Placement:
    """How a model is loaded; None: as its options say."""

    device: str | None = None
    provider: str | None = None
    threads: int | None = None
    instances: int | None = None
    max_rows: int | str | None = None

    def apply(self, options: ModelOptions) -> ModelOptions:
        """Put it into the options. Raises InvalidInput."""
        group = options.instances[0]
        device = self.device or group.device
        count = self.instances or group.count
        changes: dict[str, Any] = {}
        if self.device is not None or self.instances is not None:
            changes["instances"] = (InstanceGroup(device, count),)
        if self.provider is not None:
            changes["providers"] = (ProviderOptions(self.provider),)
        if self.threads is not None:
            changes["intra_op_threads"] = self.threads
        if self.max_rows is not None:
            batching: dict[str, Any] = {"max_rows": self.max_rows}
            changes["batching"] = dataclasses.replace(options.batching, **batching)
        return dataclasses.replace(options, **changes)

    @classmethod
    def of(cls, options: ModelOptions) -> "Placement":
        """Read it off options."""
        group = options.instances[0]
        provider = options.providers[0].name if options.providers else group.device.split(":")[0]
        return cls(
            device=group.device,
            provider=provider,
            threads=options.intra_op_threads,
            instances=sum(each.count for each in options.instances),
            max_rows=options.batching.max_rows,
        )


@dataclass(frozen=True, slots=True)
class Grid:
    """What was asked for. Empty where it was not.

    scenarios: of pyruntime.bench.results.SCENARIOS. rates: requests per second.
    slo: the highest rate that keeps it is searched for.
    """

    scenarios: Sequence[str] = ()
    rows: Sequence[int] = (1,)
    concurrency: Sequence[int] = ()
    rates: Sequence[float] = ()
    slo: Slo | None = None
    devices: Sequence[str] = ()
    providers: Sequence[str] = ()
    threads: Sequence[int] = ()
    instances: Sequence[int] = ()
    max_rows: Sequence[int | str] = ()

    def check(self, *, is_inproc: bool) -> None:
        """Raises InvalidInput that names the option."""
        for scenario in self.scenarios:
            if scenario not in SCENARIOS:
                names = ", ".join(SCENARIOS)
                raise InvalidInput(f"scenario: expected one of {names}, got {scenario!r}")
        for name in ("rows", "concurrency", "threads", "instances"):
            least = 0 if name == "threads" else 1
            if wrong := [number for number in getattr(self, name) if number < least]:
                raise InvalidInput(f"{name}: expected at least {least}, got {wrong[0]}")
        if wrong_rates := [rate for rate in self.rates if not 0 < rate < float("inf")]:
            raise InvalidInput(f"rate: expected more than 0 per second, got {wrong_rates[0]:g}")
        for scenario in self._scenarios():
            if scenario in ("open", "server") and not self.rates and self.slo is None:
                raise InvalidInput(f"scenario {scenario}: expected a rate (--rate), got none")
        if not is_inproc:
            for name in ("devices", "providers", "threads", "instances", "max_rows"):
                if getattr(self, name):
                    raise InvalidInput(
                        f"{name}: a server chooses these itself; they are for the target inproc"
                    )

    def placements(self) -> list[Placement]:
        """Each way of loading a model."""
        return [
            Placement(*each)
            for each in itertools.product(
                self.devices or (None,),
                self.providers or (None,),
                self.threads or (None,),
                self.instances or (None,),
                self.max_rows or (None,),
            )
        ]

    def configurations(
        self, model: str, target: str, placement: Placement, rows: int
    ) -> list[Configuration]:
        """What is measured of a model that was loaded so, with requests of so many rows."""
        fixed = {"model": model, "target": target, "rows": rows, **dataclasses.asdict(placement)}
        return [
            Configuration(scenario=scenario, **fixed, **load)
            for scenario in self._scenarios()
            for load in self._loads(scenario)
        ]

    def _scenarios(self) -> Sequence[str]:
        if self.scenarios:
            return self.scenarios
        return ("open",) if self.rates or self.slo else ("closed",)

    def _loads(self, scenario: str) -> list[dict[str, Any]]:
        if scenario in ("open", "server"):
            searched: list[dict[str, Any]] = []
            if self.slo and scenario == "open":
                searched = [{"slo": self.slo.text}]
            return searched + [{"rate_per_s": float(rate)} for rate in self.rates]
        if scenario == "single-stream":
            return [{"concurrency": 1}]
        if scenario == "offline":
            return [{}]
        default = _SAMPLES_OF_A_QUERY if scenario == "multi-stream" else 1
        return [{"concurrency": number} for number in self.concurrency or (default,)]
