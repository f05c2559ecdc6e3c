"""Basic authentication: whoever asks without a user's password is turned away."""

import base64
import binascii
import hashlib
import hmac
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http import HTTPStatus

from loopotel_prom.errors import MissingExtraError
from loopotel_prom.web.message import Request, Response, plain

try:
    import bcrypt
except ImportError:  # the extra is not installed; `Doorman` says so
    bcrypt = None  # type: ignore[assignment]

# A hash takes some 50 ms on purpose; so those that are right are remembered, and
# those that are wrong: both among so many.
_REMEMBERED = 128
# Of a client's address: guesses a second, and how many at first.
_GUESSES_PER_SECOND = 2.0
_FIRST_GUESSES = 10.0
_ADDRESSES = 512
# More would wait longer for their hash than a scrape may take.
_MOST_WAITING = 4
# What bcrypt looks at; it refuses more.
_PASSWORD_BYTES = 72

_UNAUTHORIZED = plain(
    HTTPStatus.UNAUTHORIZED,
    "unauthorized",
    ("WWW-Authenticate", 'Basic realm="loopotel-prom", charset="UTF-8"'),
)
_BUSY = plain(
    HTTPStatus.TOO_MANY_REQUESTS, "too many attempts; try again", ("Retry-After", "1")
)


class Doorman:
    """
    Checks passwords, one hash at a time. Thread-safe.

    To whoever guesses, an unknown user and a wrong password look and last the same.
    Whoever was let in once is known again without a hash, however many guess.

    Args:
        monotonic: Gives seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._key = os.urandom(32)
        self._lock = threading.Lock()
        self._hashing = threading.Lock()
        self._waiting = threading.BoundedSemaphore(_MOST_WAITING)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._guesses = _Guesses(monotonic)
        self._decoys: dict[str, str] = {}

    def refusal(self, request: Request, users: Mapping[str, str]) -> Response | None:
        """
        Give the answer to one who may not ask; None to one who may.

        Args:
            request: Who asks.
            users: By name, the bcrypt hash of the password; anyone may if empty.
        """
        if not users:
            return None
        credentials = _credentials(request.headers.get("authorization"))
        if credentials is None:
            return _UNAUTHORIZED
        name, password = credentials
        # Made for known users too: it takes time.
        decoy = self._decoy(name, users)
        expected = users.get(name, decoy)
        known = self._remembered(name, password, expected)
        if known is None:
            if not self._guesses.take(request.client):
                return _BUSY
            if not self._waiting.acquire(blocking=False):
                return _BUSY
            try:
                with self._hashing:
                    known = _matches(password, expected) and name in users
            finally:
                self._waiting.release()
            self._remember(name, password, expected, right=known)
        return None if known else _UNAUTHORIZED

    def _decoy(self, name: str, users: Mapping[str, str]) -> str:
        """
        Give an unknown user a hash that costs as much as some user's.

        Always the same one's: to ask again tells nothing.
        """
        hashes = sorted(users.values())
        place = int.from_bytes(self._digest(name)[:8], "big") % len(hashes)
        # The salt and the cost of a user's hash; no password has this result.
        return hashes[place][:29] + "." * 31

    def _digest(self, *parts: str) -> bytes:
        message = b"\0".join(part.encode("utf-8", "surrogatepass") for part in parts)
        return hmac.digest(self._key, message, hashlib.sha256)

    def _token(self, name: str, password: bytes, expected: str) -> bytes:
        # By the hash too: once that has changed, nothing is known any more.
        return self._digest(name, password.hex(), expected)

    def _remembered(self, name: str, password: bytes, expected: str) -> bool | None:
        token = self._token(name, password, expected)
        with self._lock:
            if token in self._right:
                self._right.move_to_end(token)
                return True
            return False if token in self._wrong else None

    def _remember(
        self, name: str, password: bytes, expected: str, *, right: bool
    ) -> None:
        token = self._token(name, password, expected)
        # Apart, so that no number of guesses makes those forgotten who are right.
        outcomes = self._right if right else self._wrong
        with self._lock:
            outcomes[token] = None
            while len(outcomes) > _REMEMBERED:
                outcomes.popitem(last=False)


class _Guesses:
    """Tells whether an address may guess again: a bucket of tokens for each."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> bool:
        """Count a guess; False if it is one too many."""
        now = self._monotonic()
        with self._lock:
            left, before = self._buckets.pop(address, (_FIRST_GUESSES, now))
            left = min(_FIRST_GUESSES, left + (now - before) * _GUESSES_PER_SECOND)
            allowed = left >= 1
            self._buckets[address] = (left - 1 if allowed else left, now)
            if len(self._buckets) > _ADDRESSES:
                self._buckets.popitem(last=False)
        return allowed


def require_bcrypt() -> None:
    """
    Make sure that passwords can be checked.

    Raises:
        MissingExtraError: bcrypt is not installed.
    """
    if bcrypt is None:
        raise MissingExtraError("bcrypt, which basic_auth_users needs,", extra="web")


def _credentials(header: str | None) -> tuple[str, bytes] | None:
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(encoded.strip(" "), validate=True)
    except (binascii.Error, ValueError):
        return None
    name, colon, password = decoded.partition(b":")
    return (name.decode("utf-8", "replace"), password) if colon else None


def _matches(password: bytes, expected: str) -> bool:
    # bcrypt takes no NUL. What is left out is hashed all the same, for the time.
    usable = password.replace(b"\0", b"")
    matches = bcrypt.checkpw(usable[:_PASSWORD_BYTES], expected.encode("ascii"))
    return matches and usable == password
