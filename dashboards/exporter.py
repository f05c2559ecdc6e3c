"""Exporter health: whether what the other boards show can be believed."""

from typing import Final

from dashboards.board import INSTANCE, JOB, Line, Row, board
from dashboards.exporter_archive import (
    CHECKPOINT,
    CHECKPOINT_SIZE,
    DAMAGE,
    LAG_OVER_TIME,
    LOST,
    NO_ARCHIVE,
    SEALED,
    SIDECAR_JOURNALS,
    SIDECAR_LAG,
    SIDECAR_READS,
    SYNC_TIME,
    WAITING,
    WRITTEN,
)
from dashboards.panel import (
    BAD,
    BARS,
    FAIR,
    GOOD,
    POOR,
    UNSEEN,
    ZERO_IS_GOOD,
    About,
    Json,
    Query,
    Steps,
    painted,
    series,
    stat,
)
from dashboards.query import HOUR, own, own_grown, own_per_interval, summed
from dashboards.table import Column, table

_NOTHING: Final = "none: good"
_SLOW: Final[Steps] = ((None, GOOD), (0.5, FAIR), (1, POOR), (5, BAD))
_LAG: Final[Steps] = ((None, GOOD), (2, FAIR), (10, POOR), (60, BAD))


def _or_zero(vector: str) -> str:
    """Give zero where an exporter is, but nothing was counted."""
    return f"{vector} or 0 * count({own('loopotel_build_info')})"


_UP: Final = stat(
    About(
        id=1,
        title="Exporters up",
        description="Exporters whose latest scrape succeeded, of those chosen. One that"
        " is down takes its loops off all boards.",
        unit="short",
        empty="no exporter found",
    ),
    Query(expr=f"count({own('loopotel_build_info')})"),
)

_TROUBLE: Final = stat(
    About(
        id=2,
        title="Failures, last hour",
        description="What should not happen: spans that a processor failed to take,"
        " values that made no sense, labels without room, emits slower than 10 ms,"
        " syncs that failed, spans that were lost. Below is which.",
        unit="short",
        steps=((None, GOOD), (1, POOR), (50, BAD)),
        decimals=0,
        empty="no exporter found",
    ),
    Query(
        expr=" + ".join(
            f"({_or_zero(own_grown(metric, HOUR))})"
            for metric in (
                "loopotel_processor_failures_total",
                "loopotel_dropped_values_total",
                "loopotel_label_overflows_total",
                "loopotel_slow_emits_total",
                "loopotel_archive_sync_failures_total",
                "loopotel_archive_lost_spans_total",
            )
        ),
        instant=True,
    ),
    filled=True,
)

_SLOWEST: Final = stat(
    About(
        id=3,
        title="Slowest page",
        description="How long the slowest exporter took to make its latest page."
        " Prometheus gives up after its scrape timeout, 10 seconds mostly.",
        unit="s",
        steps=_SLOW,
        empty="no scrape yet",
    ),
    Query(expr=f"max({own('loopotel_scrape_duration_seconds')})"),
)

_SERIES: Final = stat(
    About(
        id=4,
        title="Series of loops",
        description="Series of the loops on all pages. A page holds 2,000 unless"
        " `max_series` says other; beyond it, names become __overflow__.",
        unit="short",
        empty="no exporter found",
    ),
    Query(expr=f"sum({own('loopotel_series')})"),
)

_DEGRADED: Final = stat(
    About(
        id=5,
        title="Archives degraded",
        description="Exporters whose disk takes nothing: the newest spans wait in"
        " memory and are written once there is space again.",
        unit="short",
        steps=ZERO_IS_GOOD,
        empty=NO_ARCHIVE,
    ),
    Query(expr=f"sum({own('loopotel_archive_degraded')})"),
    filled=True,
)

_JOURNAL_LAG: Final = stat(
    About(
        id=6,
        title="At risk",
        description="For how long the oldest span has waited to be synced: what a loss"
        " of power takes. One second is usual.",
        unit="s",
        steps=_LAG,
        decimals=2,
        empty=NO_ARCHIVE,
    ),
    Query(expr=f"max({own('loopotel_archive_journal_lag_seconds')})"),
)

_EXPORTERS: Final = table(
    About(
        id=10,
        title="Exporters",
        description="Each exporter, its version, and how its latest page went. A click"
        " on the instance opens its own page.",
        unit="none",
        empty="no exporter found",
    ),
    [
        Column(name="Job", label="job", unit="string", width=90),
        Column(
            name="Instance",
            label="instance",
            unit="string",
            width=None,
            link="http://${__value.text}/",
            tip="Open its page",
        ),
        Column(name="Version", label="version", unit="string", width=80),
        Column(
            name="",
            expr=f"max by (job, instance, version) ({own('loopotel_build_info')})",
        ),
        Column(
            name="Active runs",
            expr=summed(own("loop_runs_active"), "job, instance"),
            width=95,
        ),
        Column(
            name="Series",
            expr=f"max by (job, instance) ({own('loopotel_series')})",
            unit="locale",
            steps=((None, GOOD), (1500, FAIR), (1900, BAD)),
            cell="gauge",
            most=2000,
            width=140,
        ),
        Column(
            name="Page took",
            expr=f"max by (job, instance) ({own('loopotel_scrape_duration_seconds')})",
            unit="s",
            steps=_SLOW,
            cell="color-text",
            width=100,
        ),
        Column(
            name="Page size",
            expr=f"max by (job, instance) ({own('loopotel_scrape_size_bytes')})",
            unit="bytes",
            width=100,
        ),
        Column(
            name="Unslotted",
            expr=own_grown("loopotel_unslotted_runs_total", HOUR, by="job, instance"),
            steps=((None, GOOD), (1, FAIR)),
            cell="color-text",
            decimals=0,
            width=90,
        ),
        Column(
            name="Slow emits",
            expr=own_grown("loopotel_slow_emits_total", HOUR, by="job, instance"),
            steps=((None, GOOD), (1, POOR)),
            cell="color-text",
            decimals=0,
            width=95,
        ),
        Column(
            name="Not sealed",
            expr=f"max by (job, instance) ({own('loopotel_archive_pending_runs')})",
            steps=((None, GOOD), (10, FAIR), (100, BAD)),
            cell="color-text",
            width=95,
        ),
    ],
    sort="Series",
)

_PAGE_TIMES: Final = series(
    About(
        id=20,
        title="Time to make a page",
        description="How long each exporter took for its page; the line is one second.",
        unit="s",
        steps=((None, UNSEEN), (1, BAD)),
        least=0,
        empty="no scrape yet",
    ),
    [
        Query(
            expr=f"max by (instance) ({own('loopotel_scrape_duration_seconds')})",
            legend="{{instance}}",
        )
    ],
)

_PAGE_SIZES: Final = series(
    About(
        id=21,
        title="Size of a page",
        description="Unpacked. It grows with loops, runs, workers and evaluators, and"
        " has an end.",
        unit="bytes",
        steps=((None, UNSEEN), (10e6, BAD)),
        least=0,
        empty="no scrape yet",
    ),
    [
        Query(
            expr=f"max by (instance) ({own('loopotel_scrape_size_bytes')})",
            legend="{{instance}}",
        )
    ],
)

_SERIES_OVER_TIME: Final = series(
    About(
        id=22,
        title="Series on a page",
        description="Series on each page; the line is where names become __overflow__"
        " by default.",
        unit="short",
        steps=((None, UNSEEN), (2000, BAD)),
        decimals=0,
        least=0,
        empty="no exporter found",
    ),
    [
        Query(
            expr=f"max by (instance) ({own('loopotel_series')})",
            legend="{{instance}}",
        )
    ],
)

_DROPPED: Final = series(
    About(
        id=30,
        title="Values dropped, by field",
        description="Reported values that made no sense: NaN, negative, no number. The"
        " loop goes on without them; its code wants a look.",
        unit="short",
        steps=ZERO_IS_GOOD,
        least=0,
        empty=_NOTHING,
    ),
    [
        Query(
            expr=own_per_interval("loopotel_dropped_values_total", by="field"),
            legend="{{field}}",
        )
    ],
    shades=POOR,
    drawn=BARS,
)

_OVERFLOWS: Final = series(
    About(
        id=31,
        title="Labels without room",
        description="Names beyond the hundred that a label has room for, or beyond all"
        " series: shown as __overflow__, counted right.",
        unit="short",
        steps=ZERO_IS_GOOD,
        least=0,
        empty=_NOTHING,
    ),
    [
        Query(
            expr=own_per_interval("loopotel_label_overflows_total", by="label"),
            legend="{{label}}",
        )
    ],
    shades=POOR,
    drawn=BARS,
)

_PIPELINE: Final = series(
    About(
        id=32,
        title="Slow and failed emits",
        description="Spans that took more than 10 ms, and the loop with them; spans"
        " that no processor took, and pages that lack a collector. The log has the"
        " first of each kind.",
        unit="short",
        steps=ZERO_IS_GOOD,
        least=0,
        empty=_NOTHING,
    ),
    [
        Query(expr=own_per_interval("loopotel_slow_emits_total"), legend="slow emits"),
        Query(
            expr=own_per_interval("loopotel_processor_failures_total", by="processor"),
            legend="failed: {{processor}}",
        ),
    ],
    shades=POOR,
    drawn=BARS,
    overrides=painted({"slow emits": POOR}),
)


def build() -> Json:
    """Give the board."""
    top = (_UP, _TROUBLE, _SLOWEST, _SERIES, _DEGRADED, _JOURNAL_LAG)
    pages = (_PAGE_TIMES, _PAGE_SIZES, _SERIES_OVER_TIME)
    mishaps = (_DROPPED, _OVERFLOWS, _PIPELINE)
    archive = (
        Line(7, (WRITTEN, LAG_OVER_TIME, SYNC_TIME)),
        Line(7, (WAITING, SEALED, LOST)),
    )
    sidecar = (
        Line(7, (SIDECAR_LAG, SIDECAR_READS, SIDECAR_JOURNALS)),
        Line(4, (DAMAGE, CHECKPOINT, CHECKPOINT_SIZE)),
    )
    return board(
        uid="loopotel-exporter",
        title="Loops / Exporter health",
        description="Can what the other boards show be believed? Pages, limits, the"
        " archive, the sidecar.",
        variables=[JOB, INSTANCE],
        rows=[
            Row(
                0,
                "",
                [
                    Line(3, top[:3]),
                    Line(3, top[3:]),
                    Line(5, [_EXPORTERS]),
                    Line(7, pages),
                ],
            ),
            Row(60, "What was left out", [Line(7, mishaps)]),
            Row(61, "Archive", archive),
            Row(62, "Sidecar", sidecar, folded=True),
        ],
        since="now-1h",
    )
