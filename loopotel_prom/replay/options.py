"""How the history is sampled."""

import re
from dataclasses import dataclass
from math import isfinite

from loopotel_prom.errors import ConfigError
from loopotel_prom.metrics.catalogue import CATALOGUE

DEFAULT_LABELS = (("instance", "archive"), ("job", "loops"))

_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_TAKEN = {"le"} | {name for metric in CATALOGUE for name in metric.label_names}
# What Prometheus looks back for a value is 300.
_LONGEST_KEEP_ALIVE = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryOptions:
    """
    How the history is sampled (`specs/backfill.md`).

    Attributes:
        resolution_seconds: The grid of the instants, whole milliseconds.
        keep_alive_seconds: How often what does not change is said again.
        linger_seconds: How long the slot of an ended run is shown.
        idle_seconds: How long a loop is shown of which no run is under way.
        since_ms: No point before this, Unix milliseconds; None for no limit.
        until_ms: No point after this, likewise.
        labels: On every series.
        max_concurrent_runs: Runs of one loop that are shown apart.
        run_labels: Labels beyond the identity, as of `configure`.
        max_series: Series that the loops have in all.

    Raises:
        ConfigError: A value cannot work.
    """

    # Any iteration's own instant is kept.
    resolution_seconds: float = 0.001
    # Enough for rates over five minutes, as with a usual scrape interval.
    keep_alive_seconds: float = 60.0
    linger_seconds: float = 30.0
    # As long as Prometheus looks back; more would be most of what there is.
    idle_seconds: float = 300.0
    since_ms: int | None = None
    until_ms: int | None = None
    labels: tuple[tuple[str, str], ...] = DEFAULT_LABELS
    max_concurrent_runs: int = 16
    run_labels: tuple[str, ...] = ()
    max_series: int = 4500

    def __post_init__(self) -> None:
        self._check("resolution", self.resolution_seconds, 0.001, 60.0)
        self._check(
            "keep-alive",
            self.keep_alive_seconds,
            self.resolution_seconds,
            _LONGEST_KEEP_ALIVE,
        )
        self._check("linger", self.linger_seconds, 0.0, 86_400.0)
        self._check("idle", self.idle_seconds, 0.0, 366 * 86_400.0)
        for name, value in self.labels:
            self._check_label(name, value)

    def _check(self, name: str, value: float, least: float, most: float) -> None:
        if not (isfinite(value) and least <= value <= most):
            raise ConfigError(
                f"{name} must be from {least:g} to {most:g} seconds, got {value:g}"
            )

    def _check_label(self, name: str, value: str) -> None:
        if not _LABEL_NAME.fullmatch(name):
            raise ConfigError(f"label {name!r}: a name like team or cluster_name")
        if name in _TAKEN or name in self.run_labels:
            raise ConfigError(f"label {name!r}: the metrics have one of that name")
        if not value or not value.isprintable():
            raise ConfigError(f"label {name!r}: its value must be printable text")
