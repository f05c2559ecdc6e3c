"""What the exporters' archives and sidecars do."""

from typing import Final

from dashboards.panel import (
    BAD,
    BARS,
    FAIR,
    GOOD,
    NEUTRAL,
    PLAIN,
    POOR,
    STACKED,
    UNSEEN,
    ZERO_IS_GOOD,
    About,
    Query,
    painted,
    series,
    stat,
)
from dashboards.query import (
    HOUR,
    own,
    own_grown,
    own_pace,
    own_per_interval,
    ratio,
    summed,
)

NO_ARCHIVE: Final = "no archive"
_NO_SIDECAR: Final = "no sidecar"
WRITTEN: Final = series(
    About(
        id=40,
        title="Archive, written",
        description="Bytes a second, by file: the journal as spans end, the sealed"
        " documents as runs do.",
        unit="Bps",
        least=0,
        empty=NO_ARCHIVE,
    ),
    [
        Query(
            expr=own_pace("loopotel_archive_bytes_total", by="file"),
            legend="{{file}}",
        )
    ],
    drawn=STACKED,
    overrides=painted({"journal": PLAIN, "sealed": GOOD}),
)

LAG_OVER_TIME: Final = series(
    About(
        id=41,
        title="Journal lag",
        description="For how long the oldest span has waited to be synced. Beyond ten"
        " seconds the disk does not keep up.",
        unit="s",
        steps=((None, UNSEEN), (10, BAD)),
        least=0,
        empty=NO_ARCHIVE,
    ),
    [
        Query(
            expr=f"max by (instance) ({own('loopotel_archive_journal_lag_seconds')})",
            legend="{{instance}}",
        )
    ],
)

SYNC_TIME: Final = series(
    About(
        id=42,
        title="Time of a sync",
        description="How long a sync of the journal takes, on average: milliseconds on"
        " a solid-state disk. The line is 100 ms.",
        unit="s",
        steps=((None, UNSEEN), (0.1, BAD)),
        least=0,
        empty=NO_ARCHIVE,
    ),
    [
        Query(
            expr=ratio(
                own_pace("loopotel_archive_sync_seconds_total", by="instance"),
                own_pace("loopotel_archive_syncs_total", by="instance"),
            ),
            legend="{{instance}}",
        )
    ],
)

WAITING: Final = series(
    About(
        id=43,
        title="Waiting for the archive",
        description="Spans in memory only, because the disk takes none, and runs that"
        " have ended but are not sealed. Both should fall back to zero at once.",
        unit="short",
        decimals=0,
        least=0,
        empty=NO_ARCHIVE,
    ),
    [
        Query(
            expr=summed(own("loopotel_archive_backlog_spans")),
            legend="spans in memory only",
        ),
        Query(
            expr=summed(own("loopotel_archive_pending_runs")),
            legend="runs not sealed",
        ),
    ],
    overrides=painted({"spans in memory only": BAD, "runs not sealed": FAIR}),
)

SEALED: Final = series(
    About(
        id=44,
        title="Runs sealed",
        description="Runs whose document became a line of the archive; recovered ones"
        " are those of processes that died.",
        unit="short",
        decimals=0,
        least=0,
        empty=NO_ARCHIVE,
    ),
    [
        Query(expr=own_per_interval("loopotel_archive_seals_total"), legend="sealed"),
        Query(
            expr=own_per_interval("loopotel_archive_recovered_runs_total"),
            legend="recovered",
        ),
    ],
    drawn=BARS,
    overrides=painted({"sealed": GOOD, "recovered": POOR}),
)

LOST: Final = series(
    About(
        id=45,
        title="Lost spans and failed syncs",
        description="Spans that no disk took before memory for them ran out: these are"
        " lost. A failed sync is written again, and only a warning.",
        unit="short",
        steps=ZERO_IS_GOOD,
        decimals=0,
        least=0,
        empty=NO_ARCHIVE,
    ),
    [
        Query(
            expr=own_per_interval("loopotel_archive_lost_spans_total"),
            legend="spans lost",
        ),
        Query(
            expr=own_per_interval("loopotel_archive_sync_failures_total"),
            legend="syncs failed",
        ),
    ],
    drawn=BARS,
    overrides=painted({"spans lost": BAD, "syncs failed": POOR}),
)

SIDECAR_LAG: Final = series(
    About(
        id=50,
        title="Sidecar lag",
        description="How old a value may be that is not on the sidecar's page yet:"
        " under a second; the line is five.",
        unit="s",
        steps=((None, UNSEEN), (5, BAD)),
        least=0,
        empty=_NO_SIDECAR,
    ),
    [
        Query(
            expr=f"max by (instance) ({own('loopotel_sidecar_lag_seconds')})",
            legend="{{instance}}",
        )
    ],
)

SIDECAR_READS: Final = series(
    About(
        id=51,
        title="Sidecar, read",
        description="Records of journals and sealed documents that it reads a second.",
        unit="cps",
        least=0,
        empty=_NO_SIDECAR,
    ),
    [
        Query(expr=own_pace("loopotel_sidecar_records_total"), legend="records"),
        Query(expr=own_pace("loopotel_sidecar_documents_total"), legend="documents"),
    ],
)

SIDECAR_JOURNALS: Final = series(
    About(
        id=52,
        title="Processes followed",
        description="Journals that the sidecar follows, one for each process with runs;"
        " and those of dead processes that it has recovered.",
        unit="short",
        steps=NEUTRAL,
        decimals=0,
        least=0,
        empty=_NO_SIDECAR,
    ),
    [
        Query(expr=summed(own("loopotel_sidecar_journals")), legend="followed"),
        Query(
            expr=own_per_interval("loopotel_sidecar_recoveries_total"),
            legend="recovered",
        ),
    ],
    overrides=painted({"followed": PLAIN, "recovered": POOR}),
)

DAMAGE: Final = stat(
    About(
        id=53,
        title="Damaged lines, last hour",
        description="Lines of the archive that the sidecar could not read, and passed"
        " over. `loopotel-prom archive verify` names them.",
        unit="short",
        steps=ZERO_IS_GOOD,
        decimals=0,
        empty=_NO_SIDECAR,
    ),
    Query(
        expr=own_grown("loopotel_sidecar_damaged_lines_total", HOUR),
        instant=True,
    ),
)

CHECKPOINT: Final = stat(
    About(
        id=54,
        title="Age of the checkpoint",
        description="How long ago the sidecar wrote down where it is; a restart goes on"
        " from there. It is written while something changes.",
        unit="s",
        steps=((None, GOOD), (300, FAIR), (3600, POOR)),
        decimals=0,
        empty=_NO_SIDECAR,
    ),
    Query(expr=f"max({own('loopotel_sidecar_checkpoint_age_seconds')})"),
)

CHECKPOINT_SIZE: Final = stat(
    About(
        id=55,
        title="Size of the checkpoint",
        description="Beyond 50 MB, starting anew from the archive is quicker.",
        unit="bytes",
        steps=((None, GOOD), (50e6, POOR)),
        decimals=1,
        empty=_NO_SIDECAR,
    ),
    Query(expr=f"max({own('loopotel_sidecar_checkpoint_size_bytes')})"),
)
