"""The metrics page for those who cannot be scraped: a file, a Pushgateway."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, push_to_gateway

from loopotel_prom.errors import DeliveryError
from loopotel_prom.health import Health
from loopotel_prom.metrics.collector import LoopCollector
from loopotel_prom.metrics.exposition import TEXT_0_0_4
from loopotel_prom.web.page import MetricsPage, Source

# Readable for the node_exporter, which runs as another user.
_MODE = 0o644


def write_textfile(
    path: str | os.PathLike[str],
    registry: CollectorRegistry,
    own: LoopCollector,
    source: Source,
    health: Health,
) -> None:
    """
    Replace a file by the page, in the one format that the textfile collector reads.

    It counts as no scrape: nobody may have read the file yet.

    Raises:
        DeliveryError: The file cannot be written; the old one is still there.
    """
    target = Path(path)
    page = MetricsPage(registry, own, source, health).render(TEXT_0_0_4).body
    temporary = None
    try:
        # In the same folder: only there can it take the other's place at once. The
        # collector reads no file of this ending.
        file, temporary = tempfile.mkstemp(
            prefix=f".{target.name}.", suffix=".tmp", dir=target.parent
        )
        with os.fdopen(file, "wb") as stream:
            stream.write(page)
        Path(temporary).chmod(_MODE)
        Path(temporary).replace(target)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise DeliveryError(
            f"cannot write {target}: {error.strerror or error}; check its folder"
        ) from error


def push(
    registry: CollectorRegistry,
    gateway: str,
    job: str,
    grouping_key: Mapping[str, str] | None,
    timeout_seconds: float,
) -> None:
    """
    Replace a job's metrics on a Pushgateway by the registry's.

    Raises:
        DeliveryError: It cannot be reached, or refuses.
    """
    try:
        push_to_gateway(
            gateway,
            job=job,
            registry=registry,
            grouping_key=dict(grouping_key or {}),
            timeout=timeout_seconds,
        )
    except (OSError, ValueError) as error:
        raise DeliveryError(
            f"cannot push to {gateway}: {error}; is a Pushgateway there?"
        ) from error
