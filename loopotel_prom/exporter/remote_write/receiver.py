"""A receiver of remote write: one body goes there, one answer comes back."""

import email.utils
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import requests
import urllib3

from loopotel_prom.errors import ConfigError, MissingExtraError
from loopotel_prom.exporter.remote_write.credentials import Credentials
from loopotel_prom.exporter.remote_write.url import check_url, shown_url
from loopotel_prom.version import __version__

# What a receiver says is shown in one line.
_MOST_TEXT_BYTES = 4096
_MOST_TEXT = 300
_LONGEST_SECONDS = 3600.0
_NOBODY = Credentials()
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PROTOCOL = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "User-Agent": f"loopotel-prom/{__version__}",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
_NOT_YOURS = {name.lower() for name in _PROTOCOL} | {
    "connection",
    "content-length",
    "host",
    "transfer-encoding",
}
# They would stand in the list of processes, and in a shell's history.
_SECRET = re.compile("auth|cookie|password|secret|token|api-?key", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What came of one request.

    Attributes:
        status: HTTP's status; None if there was no answer.
        text: The first line of its body, or why there was none.
        retry_after_seconds: When the receiver wants to be asked again, from now.
        is_final: There was no answer, and asking again would give none.
    """

    status: int | None
    text: str = ""
    retry_after_seconds: float = 0.0
    is_final: bool = False


class Receiver(Protocol):
    """Takes requests."""

    @property
    def name(self) -> str:
        """Say which it is, for people."""

    def post(self, message: bytes) -> Answer:
        """Hand one `WriteRequest` over; whatever happens is an `Answer`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """
    Where a receiver is, and how to talk to it.

    Attributes:
        url: Its whole URL.
        headers: What to add to each request; no credentials.
        credentials: Who asks.
        ca_file: Certificates to trust instead of the system's.
        timeout_seconds: The longest to wait for a connection, and for an answer.

    Raises:
        ConfigError: It cannot work.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    credentials: Credentials = _NOBODY
    ca_file: Path | None = None
    timeout_seconds: float = 30.0

    def __post_init__(self) -> None:
        check_url(self.url)
        for name, value in self.headers.items():
            _check_header(name, value)
        if not 0 < self.timeout_seconds <= _LONGEST_SECONDS:
            raise ConfigError(
                f"--timeout {self.timeout_seconds:g}: from 0.001 to"
                f" {_LONGEST_SECONDS:g} seconds are possible"
            )
        if self.ca_file is not None and not self.ca_file.is_file():
            raise ConfigError(f"CA file {self.ca_file}: there is no such file")


class HttpReceiver:
    """
    A receiver behind HTTP; proxies are as the environment has them.

    Args:
        address: Where.

    Attributes:
        name: Its URL, without what may be a secret.

    Raises:
        MissingExtraError: There is nothing to compress with.
    """

    def __init__(self, address: Address) -> None:
        self.name = shown_url(address.url)
        self._address = address
        self._compress = snappy()
        self._session = requests.Session()
        self._session.headers.update({**address.headers, **_PROTOCOL})
        # Also where there is none: without this, requests would look into ~/.netrc.
        self._session.auth = self._authorize
        if address.ca_file is not None:
            self._session.verify = str(address.ca_file)

    def post(self, message: bytes) -> Answer:
        """Hand one `WriteRequest` over; whatever happens is an `Answer`."""
        try:
            with self._session.post(
                self._address.url,
                data=self._compress(message),
                timeout=self._address.timeout_seconds,
                allow_redirects=False,
                stream=True,
                # A session's own would yield to the environment's.
                verify=self._session.verify,
            ) as answer:
                return _answer(answer)
        except (
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            OSError,
        ) as error:
            return _no_answer(error)

    def close(self) -> None:
        """Close its connections."""
        self._session.close()

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._address.credentials.header:
            request.headers["Authorization"] = self._address.credentials.header
        return request


def _answer(answer: requests.Response) -> Answer:
    lines = _body(answer).decode(errors="replace").strip().splitlines()
    text = lines[0][:_MOST_TEXT].strip() if lines else ""
    if answer.is_redirect:
        text = f"go to {answer.headers['Location'][:_MOST_TEXT]}"
    wait = _seconds_of(answer.headers.get("Retry-After", ""))
    return Answer(answer.status_code, text or (answer.reason or ""), wait)


def _body(answer: requests.Response) -> bytes:
    """Read the beginning; what is said before it, the status, stands without it."""
    try:
        body: bytes = answer.raw.read(_MOST_TEXT_BYTES, decode_content=True)
    except (urllib3.exceptions.HTTPError, OSError):
        return b""
    return body


def _seconds_of(retry_after: str) -> float:
    """Read a `Retry-After`: seconds or a date; 0 if it is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        seconds = email.utils.parsedate_to_datetime(retry_after).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    return max(0.0, seconds - time.time())


def _no_answer(error: Exception) -> Answer:
    """Say in a few words why there was none."""
    match error:
        case requests.exceptions.SSLError():
            # Cut off, as by a server that stops, it may work the next time.
            is_cut = isinstance(_innermost(error), ssl.SSLEOFError)
            return Answer(None, f"TLS failed: {_why(error)}", is_final=not is_cut)
        case requests.exceptions.ProxyError():
            return Answer(None, f"the proxy failed: {_why(error)}")
        case requests.exceptions.Timeout():
            return Answer(None, "no answer in time")
        case requests.exceptions.ConnectionError():
            return Answer(None, f"no connection: {_why(error)}")
    # A URL that only looks like one, a file of certificates that has none in it.
    return Answer(None, _why(error), is_final=True)


def _why(error: BaseException) -> str:
    inner = _innermost(error)
    return str(getattr(inner, "strerror", None) or inner)


def _innermost(error: BaseException) -> BaseException:
    """Find what was wrong beneath the layers that only pass it on."""
    for name in ("reason", "original_error", "__context__"):
        inner = getattr(error, name, None)
        if isinstance(inner, BaseException):
            return _innermost(inner)
    return error


def _check_header(name: str, value: str) -> None:
    if not _HEADER.fullmatch(name) or not (value.isascii() and value.isprintable()):
        raise ConfigError(
            f"--header {name}: no header of HTTP; give 'NAME: VALUE', in ASCII"
        )
    if name.lower() in _NOT_YOURS:
        raise ConfigError(
            f"--header {name}: remote write says what it is; leave it out"
        )
    if _SECRET.search(name):
        raise ConfigError(
            f"--header {name}: others could read it; put it into a file, and name that"
            " by --bearer-token-file or --basic-auth-file"
        )


def snappy() -> Callable[[bytes], bytes]:
    """
    Give what compresses into snappy's block format.

    Raises:
        MissingExtraError: There is nothing that does.
    """
    try:
        import cramjam  # noqa: PLC0415 - an extra
    except ImportError as error:
        what = "cramjam, which remote write's snappy needs,"
        raise MissingExtraError(what, extra="remote-write") from error
    compress: Callable[[bytes], Any] = cramjam.snappy.compress_raw
    return lambda message: bytes(compress(message))
