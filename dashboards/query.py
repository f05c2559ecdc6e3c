"""
PromQL of the boards: selectors that obey the variables, and what is made of them.

Every selector carries `job` and `instance`; those of loops their name and
environment too. A window is a PromQL duration or one of Grafana's variables.
"""

from typing import Final

RATE: Final = "$__rate_interval"
RANGE: Final = "$__range"
HOUR: Final = "1h"

_TARGET: Final = 'job=~"$job", instance=~"$instance"'
_LOOP: Final = _TARGET + ', loop_name=~"$loop_name", env_id=~"$env_id"'

IDENTITY: Final = "loop_name, env_id"
# One active run.
RUN: Final = "loop_name, env_id, instance, slot"


def loop(metric: str, *matchers: str) -> str:
    """Select a metric of the chosen loops."""
    return f"{metric}{{{', '.join((_LOOP, *matchers))}}}"


def own(metric: str, *matchers: str) -> str:
    """Select a metric of the chosen exporters."""
    return f"{metric}{{{', '.join((_TARGET, *matchers))}}}"


def summed(vector: str, by: str = "") -> str:
    """Add up, over everything or by labels."""
    return f"sum by ({by}) ({vector})" if by else f"sum({vector})"


def grown(
    metric: str, window: str, *matchers: str, by: str = "", offset: str = ""
) -> str:
    """Give by how much a counter of the chosen loops grew in a window."""
    since = f" offset {offset}" if offset else ""
    return summed(f"increase({loop(metric, *matchers)}[{window}]{since})", by)


def pace(metric: str, *matchers: str, by: str = "") -> str:
    """Give how much a counter of the chosen loops grows in a second."""
    return summed(f"rate({loop(metric, *matchers)}[{RATE}])", by)


def last_success(by: str = "") -> str:
    """
    Give when a chosen loop last succeeded, Unix time.

    A process that has started anew does not know of it, the time range does.
    """
    times = loop("loop_last_run_success_timestamp_seconds")
    newest = f"(max_over_time({times}[{RANGE}]))"
    return f"max by ({by}) {newest}" if by else f"max{newest}"


def per_interval(metric: str, *matchers: str, by: str = "") -> str:
    """Give how much a counter of the chosen loops grew in each step of the graph."""
    # Not increase over the rate interval: that overlaps its neighbours.
    return f"{pace(metric, *matchers, by=by)} * $__interval_ms / 1000"


def ratio(part: str, whole: str) -> str:
    """Divide; where the whole is zero there is no value."""
    return f"{part} / ({whole} > 0)"


def mean(histogram: str, window: str, *, by: str = "", offset: str = "") -> str:
    """Give the mean of what a histogram saw in a window."""
    return ratio(
        grown(f"{histogram}_sum", window, by=by, offset=offset),
        grown(f"{histogram}_count", window, by=by, offset=offset),
    )


def quantile(share: float, histogram: str, window: str, *, by: str = "") -> str:
    """Give a quantile of what a histogram saw in a window."""
    labels = f"le, {by}" if by else "le"
    buckets = grown(f"{histogram}_bucket", window, by=labels)
    return f"histogram_quantile({share}, {buckets})"


def own_grown(metric: str, window: str, *, by: str = "") -> str:
    """Give by how much a counter of the chosen exporters grew in a window."""
    return summed(f"increase({own(metric)}[{window}])", by)


def own_pace(metric: str, *, by: str = "") -> str:
    """Give how much a counter of the chosen exporters grows in a second."""
    return summed(f"rate({own(metric)}[{RATE}])", by)


def own_per_interval(metric: str, *, by: str = "") -> str:
    """Give how much a counter of the exporters grew in each step of the graph."""
    return f"{own_pace(metric, by=by)} * $__interval_ms / 1000"


# What several boards ask.

# A cap ended the run, not the loop itself.
_CAPS: Final = 'reason=~"max_iterations|budget_exhausted|cost_exceeded|timeout"'


def convergence(window: str, by: str = "") -> str:
    """Give the share of finished runs that met their goal."""
    won = grown("loop_runs_finished_total", window, 'outcome="success"', by=by)
    return ratio(won, grown("loop_runs_finished_total", window, by=by))


def cap_hits(window: str, by: str = "") -> str:
    """Give the share of finished runs that a cap has ended."""
    capped = grown("loop_run_terminations_total", window, _CAPS, by=by)
    return ratio(capped, grown("loop_runs_finished_total", window, by=by))


def regressions(window: str, by: str = "") -> str:
    """Give the share of iterations that fell behind the one before."""
    return ratio(
        grown("loop_regressions_total", window, by=by),
        grown("loop_iterations_total", window, by=by),
    )


def les(window: str, by: str = "", offset: str = "") -> str:
    """Give the mean final LES of the runs that ended in a window."""
    return mean("loop_run_final_les", window, by=by, offset=offset)


def les_change(window: str, by: str = "") -> str:
    """Give the mean final LES against that of the same window of yesterday."""
    return f"({les(window, by)}) - ({les(window, by, '1d')})"


def silence_seconds() -> str:
    """Give how long ago each active run had its latest iteration."""
    return f"time() - {loop('loop_last_iteration_timestamp_seconds')}"
