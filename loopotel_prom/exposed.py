"""
What this process exposes: found here by those who serve it themselves.

The wiring says it, the web asks for it; neither knows the other's side.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from loopotel_prom.health import Health

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from loopotel_prom.metrics import MetricsProcessor
    from loopotel_prom.metrics.collector import LoopCollector


class Exposed(NamedTuple):
    """
    The metrics of a process.

    Attributes:
        registry: All of them.
        processor: Where ours come from.
        collector: Ours in the registry.
        health: Where failures are counted.
    """

    registry: "CollectorRegistry"
    processor: "MetricsProcessor"
    collector: "LoopCollector"
    health: Health


class _Slot:
    """Where the wiring leaves word."""

    def __init__(self) -> None:
        self.provider: Callable[[], Exposed] | None = None


_slot = _Slot()


def provide(provider: Callable[[], Exposed]) -> None:
    """Say how to find what is exposed; called whenever it is asked for."""
    _slot.provider = provider


def exposed() -> Exposed:
    """Give what is exposed now: the configured registry's, or the default's."""
    if _slot.provider is None:  # pragma: no cover - importing the package provides it
        raise RuntimeError("import loopotel_prom first")
    return _slot.provider()
