"""Measures one point of the grid."""

import dataclasses

from pyruntime.bench.events import Started
from pyruntime.bench.how import Point
from pyruntime.bench.repeating import Repeating
from pyruntime.bench.results import Measurement
from pyruntime.bench.search import Search
from pyruntime.bench.sending import sender

__all__ = ["measure_point"]


def measure_point(point: Point) -> Measurement:
    """Measure it.

    Raises Unavailable where there is nothing to measure: no request is answered with a result.
    """
    how, configuration = point.how, point.configuration
    point.on_event(Started(configuration, how.seconds))
    if point.slo is not None and configuration.slo is not None:
        return Search(point, point.slo).measure()
    if configuration.scenario == "offline" and how.figure.endswith("_us"):
        # The only figure that it is about.
        point = dataclasses.replace(point, how=dataclasses.replace(how, figure="requests_per_s"))
    return Repeating(point).measure(sender(point))
