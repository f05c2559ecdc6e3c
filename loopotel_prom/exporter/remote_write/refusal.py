"""Refusals: what an answer that is no yes means, and what to do about it."""

from loopotel_prom.errors import DeliveryError
from loopotel_prom.exporter.remote_write.batch import Batch
from loopotel_prom.exporter.remote_write.receiver import Answer
from loopotel_prom.exporter.remote_write.url import EXAMPLE
from loopotel_prom.rfc3339 import format_time

_GOOD = range(200, 300)
_MOVED = range(300, 400)
_TOO_MANY_REQUESTS = 429
_FIRST_SERVER_ERROR = 500

# What receivers say of a sample that is older than the newest of its series, of one
# whose time has another value, and of one that is too old for them altogether.
_BEHIND = "out of order"
_TAKEN = "duplicate"
_TOO_OLD = ("out of bounds", "too old")

_ADDRESS = f"give the whole address, such as {EXAMPLE}"
_HINTS = {
    401: "name credentials by --basic-auth-file or --bearer-token-file",
    403: "these credentials, or none, are not enough",
    404: f"{_ADDRESS}; a Prometheus needs --web.enable-remote-write-receiver",
    405: _ADDRESS,
    413: "give a smaller --batch-samples",
}
_HINT = "see what the receiver's log says"


def is_good(answer: Answer) -> bool:
    """Tell whether it was taken."""
    return answer.status in _GOOD


def is_throttled(answer: Answer) -> bool:
    """Tell whether the receiver did not look at it, having enough to do."""
    return answer.status == _TOO_MANY_REQUESTS


def may_change(answer: Answer) -> bool:
    """Tell whether the same request may be taken later."""
    if answer.status is None:
        return not answer.is_final
    if answer.status >= _FIRST_SERVER_ERROR:
        return not _says(answer, *_TOO_OLD)
    return is_throttled(answer)


def is_there(answer: Answer) -> bool:
    """Tell whether it was refused as receivers refuse what they have."""
    return answer.status is not None and _says(answer, _BEHIND, _TAKEN)


def is_behind(answer: Answer) -> bool:
    """Tell whether it was refused as there is something newer."""
    return _says(answer, _BEHIND)


def said(answer: Answer) -> str:
    """Tell what the receiver said, in some words."""
    status = "" if answer.status is None else str(answer.status)
    # Go's own pages say it again.
    text = answer.text.removeprefix(status).strip()
    return f"{status} {text}".strip()


def refused(name: str, answer: Answer, batch: Batch) -> DeliveryError:
    """Make the error for a batch that a receiver does not want."""
    since = _day_time(batch.first_ms)
    return DeliveryError(
        f"{name}: {said(answer)}, of samples from {since} to"
        f" {_day_time(batch.end_ms)}; {_hint(answer, since)}"
    )


def unreached(name: str, answer: Answer, attempts: int) -> DeliveryError:
    """Make the error for a receiver that was waited for in vain."""
    return DeliveryError(
        f"{name}: {said(answer)}, at {attempts} attempts; start the command again when"
        " it is well: it goes on where it stopped"
    )


def _hint(answer: Answer, since: str) -> str:
    if _says(answer, _BEHIND, _TAKEN, *_TOO_OLD):
        return (
            "it has newer samples: give it storage.tsdb.out_of_order_time_window that"
            f" reaches back to {since}, or take an empty one"
        )
    if answer.status is None:
        return "see that the address is right, or name its certificates by --ca-file"
    if answer.status in _MOVED:
        return "give that URL, if you trust it"
    return _HINTS.get(answer.status, _HINT)


def _says(answer: Answer, *words: str) -> bool:
    text = answer.text.lower().replace("-", " ")
    return any(word in text for word in words)


def _day_time(time_ms: int) -> str:
    return format_time(time_ms * 1_000_000)[:19].replace("T", " ") + "Z"
