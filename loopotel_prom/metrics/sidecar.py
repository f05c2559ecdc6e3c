"""What a sidecar says of itself, as families; none where there is no sidecar."""

from collections.abc import Callable, Iterator

from loopotel_prom.health import SidecarHealth
from loopotel_prom.metrics import catalogue
from loopotel_prom.metrics.catalogue import Metric
from loopotel_prom.metrics.snapshot import Family, Sample

_Read = Callable[[SidecarHealth], float | None]

_READS: tuple[tuple[Metric, _Read], ...] = (
    (catalogue.SIDECAR_JOURNALS, lambda sidecar: sidecar.journals),
    (catalogue.SIDECAR_RECORDS_TOTAL, lambda sidecar: sidecar.records),
    (catalogue.SIDECAR_DOCUMENTS_TOTAL, lambda sidecar: sidecar.documents),
    (catalogue.SIDECAR_LAG, SidecarHealth.lag_seconds),
    (catalogue.SIDECAR_DAMAGED_LINES_TOTAL, lambda sidecar: sidecar.damaged_lines),
    (catalogue.SIDECAR_RECOVERIES_TOTAL, lambda sidecar: sidecar.recovered_journals),
    (catalogue.SIDECAR_CHECKPOINT_AGE, SidecarHealth.checkpoint_age_seconds),
    (catalogue.SIDECAR_CHECKPOINT_SIZE, lambda sidecar: sidecar.checkpoint_bytes),
)


def sidecar_families(sidecar: SidecarHealth) -> Iterator[Family]:
    """Give the families of a sidecar, each empty while there is none."""
    for metric, read in _READS:
        value = read(sidecar) if sidecar.in_use else None
        yield Family(metric, () if value is None else (Sample((), value),))
