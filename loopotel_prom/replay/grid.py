"""The grid: the times of a history, in steps of its resolution."""

from loopotel_prom.replay.options import HistoryOptions

# A run without a sign of life for longer is shown no more: a wrong clock must not
# fill a disk.
_SILENT_SECONDS = 86_400.0


class Grid:
    """
    The times of the options, all multiples of the resolution.

    Attributes:
        step_ms: The resolution.
        keep_alive_ms: After which all is said again.
        linger_ms: For how long an ended run keeps its slot.
        idle_ms: For how long a loop is shown without a run.
        silent_ms: For how long it is shown without a sign of life.
    """

    def __init__(self, options: HistoryOptions) -> None:
        self.step_ms = round(options.resolution_seconds * 1e3)
        self.keep_alive_ms = self._steps(options.keep_alive_seconds)
        self.linger_ms = self._steps(options.linger_seconds)
        self.idle_ms = self._steps(options.idle_seconds)
        self.silent_ms = max(self.idle_ms, self._steps(_SILENT_SECONDS))

    def instant_ms(self, time_ns: int) -> int:
        """Round a time up to an instant."""
        return -(-time_ns // (self.step_ms * 1_000_000)) * self.step_ms

    def _steps(self, seconds: float) -> int:
        # One at least: what ends is shown once.
        return max(1, -(-round(seconds * 1e3) // self.step_ms)) * self.step_ms
