"""Basic authentication: who is let in, who is not, and how little that tells."""

import base64
from http import HTTPStatus
from itertools import count

import bcrypt
import pytest

from loopotel_prom.web import auth
from loopotel_prom.web.auth import Doorman
from loopotel_prom.web.message import Request

_COST = 4


def _hash(password: bytes, prefix: bytes = b"2b") -> str:
    return bcrypt.hashpw(password, bcrypt.gensalt(_COST, prefix)).decode()


_USERS = {"prometheus": _hash(b"secret"), "ünï": _hash("gehéim".encode())}


def _asking(authorization: str | None, client: str = "192.0.2.1") -> Request:
    headers = {} if authorization is None else {"authorization": authorization}
    return Request(method="GET", path="/", headers=headers, client=client)


def _basic(credentials: str | bytes) -> str:
    if isinstance(credentials, str):
        credentials = credentials.encode()
    return "Basic " + base64.b64encode(credentials).decode()


@pytest.fixture
def doorman() -> Doorman:
    """Give one whose clock lets everyone guess as often as they like."""
    seconds = count(step=100.0)
    return Doorman(monotonic=lambda: next(seconds))


def _status(doorman: Doorman, request: Request, users=_USERS) -> int:
    refusal = doorman.refusal(request, users)
    return 200 if refusal is None else refusal.status.value


@pytest.mark.parametrize(
    "authorization",
    (
        _basic("prometheus:secret"),
        _basic("ünï:gehéim"),
        _basic("prometheus:secret").replace("Basic", "bAsIc"),
    ),
)
def test_a_user_with_the_password_is_let_in(doorman, authorization):
    """Each time."""
    assert [_status(doorman, _asking(authorization)) for _ in range(3)] == [200] * 3


@pytest.mark.parametrize(
    "authorization",
    (
        None,
        "",
        "Basic",
        "Basic ",
        "Basic !",
        "Basic =",
        "Basic \xfc",
        "Bearer " + base64.b64encode(b"prometheus:secret").decode(),
        base64.b64encode(b"prometheus:secret").decode(),
        _basic("prometheus:secret")[:-1],
        _basic("prometheus:secret").replace("Basic ", "Basic\t"),
        _basic("prometheussecret"),
        _basic(":"),
        _basic(":secret"),
        _basic("prometheus:"),
        _basic("prometheus:Secret"),
        _basic("prometheus:secret "),
        _basic("prometheus:secret\0"),
        _basic("prometheus:s\0ecret"),
        _basic("prometheus:secret\0" + "x" * 99),
        _basic("prometheus\0:secret"),
        _basic("Prometheus:secret"),
        _basic("prometheus :secret"),
        _basic("prometheus:prometheus:secret"),
        _basic("root:secret"),
        _basic("\ud800:secret".encode("utf-8", "surrogatepass")),
        _basic(b"\xff\xfe:secret"),
        _basic("prometheus:" + _USERS["prometheus"]),
        _basic("x" * 10_000 + ":" + "y" * 10_000),
    ),
)
def test_nobody_else_is_let_in(doorman, authorization):
    """And all are told the same, twice."""
    statuses = [_status(doorman, _asking(authorization)) for _ in range(2)]
    assert statuses == [401, 401]


def test_without_users_anyone_is_let_in(doorman):
    """There is nothing to check."""
    assert _status(doorman, _asking(None), {}) == 200


def test_what_is_missing_is_said_in_the_words_of_the_standard(doorman):
    """So that a browser asks its user."""
    refusal = doorman.refusal(_asking(None), _USERS)
    assert refusal is not None
    assert refusal.header("WWW-Authenticate").startswith("Basic realm=")


@pytest.mark.parametrize("prefix", (b"2a", b"2b", b"2y"))
def test_hashes_of_every_tool_are_checked(doorman, prefix):
    """Htpasswd makes 2y, others 2a or 2b."""
    made = _hash(b"secret").replace("2b", prefix.decode(), 1)
    assert _status(doorman, _asking(_basic("a:secret")), {"a": made}) == 200
    assert _status(doorman, _asking(_basic("a:wrong")), {"a": made}) == 401


def test_a_changed_password_counts_at_once(doorman):
    """What was remembered of the old one is worth nothing."""
    asking = _asking(_basic("prometheus:secret"))
    assert _status(doorman, asking) == 200
    assert _status(doorman, asking, {"prometheus": _hash(b"other")}) == 401
    assert _status(doorman, asking, {"root": _hash(b"secret")}) == 401
    assert _status(doorman, asking) == 200


@pytest.fixture
def hashed(monkeypatch) -> list[bytes]:
    """Keep what is hashed, and for how much."""
    seen: list[bytes] = []
    real = bcrypt.checkpw

    def checkpw(password, expected):
        seen.append(expected[:7])
        return real(password, expected)

    monkeypatch.setattr(auth.bcrypt, "checkpw", checkpw)
    return seen


def test_an_unknown_user_costs_a_hash_as_a_known_one_does(doorman, hashed):
    """Of some user's cost, for each name always the same."""
    users = {"a": _hash(b"x"), "b": bcrypt.hashpw(b"x", bcrypt.gensalt(5)).decode()}
    for guess in range(40):
        _status(doorman, _asking(_basic(f"nobody:{guess}")), users)
    assert len(hashed) == 40
    assert len(set(hashed)) == 1
    for guess in range(40):
        _status(doorman, _asking(_basic(f"nobody-{guess}:x")), users)
    assert set(hashed) == {b"$2b$04$", b"$2b$05$"}


def test_an_outcome_is_remembered(doorman, hashed):
    """A scrape every second costs one hash in all."""
    for _ in range(50):
        _status(doorman, _asking(_basic("prometheus:secret")))
        _status(doorman, _asking(_basic("prometheus:wrong")))
    assert len(hashed) == 2


def test_many_guesses_do_not_make_a_user_forgotten(doorman, hashed):
    """However many: what is remembered of them is bounded, and apart."""
    _status(doorman, _asking(_basic("prometheus:secret")))
    for guess in range(300):
        _status(doorman, _asking(_basic(f"prometheus:{guess}")))
    del hashed[:]
    assert _status(doorman, _asking(_basic("prometheus:secret"))) == 200
    assert hashed == []
    assert len(doorman._wrong) <= 128


def test_who_guesses_too_often_has_to_wait(hashed):
    """By address; who is known is not held up, and nor are others."""
    now = [0.0]
    doorman = Doorman(monotonic=lambda: now[0])
    assert _status(doorman, _asking(_basic("prometheus:secret"))) == 200
    statuses = [_status(doorman, _asking(_basic(f"a:{n}"))) for n in range(20)]
    assert statuses == [401] * 9 + [429] * 11
    assert len(hashed) == 10
    assert _status(doorman, _asking(_basic("prometheus:secret"))) == 200
    assert _status(doorman, _asking(_basic("a:x"), client="192.0.2.2")) == 401
    now[0] = 1.0
    statuses = [_status(doorman, _asking(_basic(f"b:{n}"))) for n in range(3)]
    assert statuses == [401, 401, 429]


def test_the_addresses_that_are_remembered_are_bounded(doorman):
    """Whoever has many cannot fill the memory with them."""
    for number in range(2000):
        doorman._guesses.take(str(number))
    assert len(doorman._guesses._buckets) == 512


def test_only_so_many_wait_for_a_hash(doorman):
    """The others are told to come again, before a thread is spent on them."""
    held = [doorman._waiting.acquire(blocking=False) for _ in range(4)]
    assert all(held)
    refusal = doorman.refusal(_asking(_basic("prometheus:secret")), _USERS)
    assert refusal is not None
    assert refusal.status is HTTPStatus.TOO_MANY_REQUESTS
