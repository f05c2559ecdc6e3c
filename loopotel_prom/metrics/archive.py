"""What the archive says of itself, as families; none where there is no archive."""

from collections.abc import Callable, Iterator

from loopotel_prom.health import ArchiveHealth
from loopotel_prom.metrics import catalogue
from loopotel_prom.metrics.catalogue import Metric
from loopotel_prom.metrics.snapshot import Family, Sample

_Read = Callable[[ArchiveHealth], float]

_READS: tuple[tuple[Metric, _Read], ...] = (
    (catalogue.ARCHIVE_DEGRADED, lambda archive: int(archive.degraded)),
    (catalogue.ARCHIVE_BACKLOG_SPANS, lambda archive: archive.backlog_spans),
    (catalogue.ARCHIVE_PENDING_RUNS, lambda archive: archive.pending_runs),
    (catalogue.ARCHIVE_JOURNAL_LAG, lambda archive: archive.lag_seconds()),
    (catalogue.ARCHIVE_SEALS_TOTAL, lambda archive: archive.seals),
    (catalogue.ARCHIVE_RECOVERED_RUNS_TOTAL, lambda archive: archive.recovered_runs),
    (catalogue.ARCHIVE_LOST_SPANS_TOTAL, lambda archive: archive.lost_spans),
    (catalogue.ARCHIVE_SYNCS_TOTAL, lambda archive: archive.syncs),
    (catalogue.ARCHIVE_SYNC_SECONDS_TOTAL, lambda archive: archive.sync_seconds),
    (catalogue.ARCHIVE_SYNC_FAILURES_TOTAL, lambda archive: archive.sync_failures),
)


def archive_families(archive: ArchiveHealth) -> Iterator[Family]:
    """Give the families of the archive, each empty while none is in use."""
    for metric, read in _READS:
        samples = (Sample((), read(archive)),) if archive.in_use else ()
        yield Family(metric, samples)
    written = (("journal", archive.journal_bytes), ("sealed", archive.sealed_bytes))
    yield Family(
        catalogue.ARCHIVE_BYTES_TOTAL,
        tuple(Sample((file,), size) for file, size in written if archive.in_use),
    )
