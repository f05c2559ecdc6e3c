"""Where `top` gets its runs from: an endpoint, or an archive's journals."""

import re
import time
from pathlib import Path
from typing import Protocol

import msgspec
import requests
from prometheus_client.parser import text_string_to_metric_families

from loopotel_prom.archive.follow import Follower
from loopotel_prom.board import BoardProcessor, Overview, RunSummary
from loopotel_prom.board.judgement import badness, mark_of
from loopotel_prom.errors import ConfigError, DeliveryError

_TIMEOUT_SECONDS = 5.0
_MOST_BYTES = 64 * 1024**2
_HOST_AND_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}")
_HINT = "is a loop's endpoint, or loopotel-prom serve, there?"


class Source(Protocol):
    """Gives the runs of the moment."""

    @property
    def name(self) -> str:
        """Say what it is, for people."""

    def read(self) -> Overview:
        """
        Give the runs as they are now.

        Raises:
            LoopotelError: They cannot be had.
            OSError: Likewise.
        """

    def close(self) -> None:
        """Let go of what it holds open."""


def source_of(target: str) -> Source:
    """
    Tell an endpoint from an archive.

    Raises:
        ConfigError: It is neither.
    """
    if target.startswith(("http://", "https://")):
        return UrlSource(target)
    folder = Path(target)
    if folder.is_dir():
        return FolderSource(folder)
    if _HOST_AND_PORT.fullmatch(target) and not folder.exists():
        return UrlSource(f"http://{target}")
    raise ConfigError(
        f"{target} is no folder and no address; give the folder of an archive, or a"
        " URL such as http://127.0.0.1:10110"
    )


class FolderSource:
    """
    The runs in an archive's journals; what is new is read, not all of it again.

    Args:
        folder: The archive.

    Raises:
        ArchiveError: It cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._board = BoardProcessor()
        self._follower = Follower(folder, self._board)

    def read(self) -> Overview:
        """Read on, and give the runs."""
        self._follower.poll()
        return self._board.overview()

    def close(self) -> None:
        """Let go of the journals."""
        self._follower.close()


class UrlSource:
    """
    The runs of an endpoint: its `/runs.json`, or else what `/metrics` tells.

    Args:
        url: Its base; a path behind it is where it is mounted.
    """

    def __init__(self, url: str) -> None:
        self.name = url.rstrip("/")
        self._has_json = True

    def read(self) -> Overview:
        """
        Ask the endpoint.

        Raises:
            DeliveryError: It does not answer, or with something else.
        """
        if self._has_json:
            answer = self._get("/runs.json")
            if answer is not None:
                return self._decoded(answer)
            # It will not have them later either.
            self._has_json = False
        page = self._get("/metrics")
        if page is None:
            raise DeliveryError(
                f"{self.name}: it has neither runs nor metrics; {_HINT}"
            )
        try:
            return overview_of_metrics(page.decode())
        except ValueError as error:
            raise DeliveryError(f"{self.name}/metrics: {error}; {_HINT}") from error

    def close(self) -> None:
        """Do nothing: no connection outlives its answer."""

    def _decoded(self, answer: bytes) -> Overview:
        try:
            return msgspec.json.decode(answer, type=Overview)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DeliveryError(f"{self.name}/runs.json: {error}; {_HINT}") from error

    def _get(self, path: str) -> bytes | None:
        """Get a page; None if there is none."""
        url = self.name + path
        try:
            with requests.get(url, timeout=_TIMEOUT_SECONDS, stream=True) as answer:
                if answer.status_code == requests.codes.not_found:
                    return None
                answer.raise_for_status()
                return _bounded(answer, url)
        except requests.RequestException as error:
            raise DeliveryError(f"{url}: {_reason(error)}; {_HINT}") from error


def _bounded(answer: requests.Response, url: str) -> bytes:
    body = bytearray()
    for piece in answer.iter_content(64 * 1024):
        body += piece
        if len(body) > _MOST_BYTES:
            raise DeliveryError(f"{url}: more than {_MOST_BYTES} bytes; {_HINT}")
    return bytes(body)


def _reason(error: requests.RequestException) -> str:
    """Say it in a few words; the library's name objects and retries."""
    if error.response is not None:
        return f"HTTP {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return str(error)


_GAUGES = {
    "loop_goal_score": "goal_score",
    "loop_goal_target": "goal_target",
    "loop_les_cumulative": "les",
    "loop_iteration": "iterations",
    "loop_run_tokens": "tokens",
    "loop_run_cost_usd": "cost_usd",
    "loop_run_start_timestamp_seconds": "started",
    "loop_last_iteration_timestamp_seconds": "latest",
}


def overview_of_metrics(page: str) -> Overview:
    """
    Read the runs of a metrics page: less is known of them, and nothing of before.

    Raises:
        ValueError: It is no metrics page.
    """
    runs: dict[tuple[str, str, str], dict[str, float]] = {}
    for family in text_string_to_metric_families(page):
        field = _GAUGES.get(family.name)
        for sample in family.samples if field else ():
            labels = sample.labels
            slot = labels.get("slot", "")
            key = (labels.get("loop_name", ""), labels.get("env_id", ""), slot)
            runs.setdefault(key, {})[field or ""] = sample.value
    active = [_of_slot(*key, values) for key, values in runs.items()]
    return Overview(now_ns=time.time_ns(), active=sorted(active, key=badness))


def _of_slot(
    loop_name: str, env_id: str, slot: str, values: dict[str, float]
) -> RunSummary:
    started, latest = _ns(values.get("started")), _ns(values.get("latest"))
    tokens = int(values.get("tokens", 0))
    rate = None
    if started is not None and latest is not None and latest > started:
        rate = tokens / ((latest - started) / 60e9)
    score, target = values.get("goal_score"), values.get("goal_target")
    return RunSummary(
        trace_id=f"slot {slot}",
        loop_name=loop_name,
        env_id=env_id or None,
        started_ns=started,
        latest_ns=latest if latest is not None else started,
        iterations=int(values.get("iterations", 0)),
        goal_score=score,
        goal_target=target,
        les=values.get("les"),
        tokens=tokens,
        cost_usd=values.get("cost_usd"),
        tokens_per_minute=rate,
        mark=mark_of(
            goal_score=score, goal_target=target, since_best=0, slope=None, burn=1.0
        ),
    )


def _ns(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e9)
