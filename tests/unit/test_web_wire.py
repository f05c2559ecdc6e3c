"""The wire: which heads are taken, which are refused, and how answers begin."""

import string
from contextlib import suppress
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopotel_prom.web.message import Response
from loopotel_prom.web.wire import RefusedError, check_start, format_head, parse_head

_HOST = b"Host: localhost"


def _head(line: bytes, *headers: bytes):
    return parse_head(b"\r\n".join((line, *headers)), "192.0.2.1")


def test_a_request_is_read():
    """Whole, decoded, and with names in lower case."""
    request, keep_alive, _ = _head(
        b"GET /a%20b?name[]=x HTTP/1.1", _HOST, b"Accept:  a ", b"ACCEPT: b"
    )
    assert (request.method, request.path, request.query) == ("GET", "/a b", "name[]=x")
    assert request.headers == {"host": "localhost", "accept": "a, b"}
    assert request.values("name[]") == ("x",)
    assert (request.client, keep_alive) == ("192.0.2.1", True)


@pytest.mark.parametrize(
    ("target", "path"),
    (
        (b"http://localhost:1/metrics?x", "/metrics"),
        (b"HTTP://localhost", "/"),
        (b"http://localhost?x", "/"),
        (b"//metrics", "//metrics"),
        (b"/%2e%2e/x", "/../x"),
    ),
)
def test_a_target_is_taken_as_it_is(target, path):
    """In origin form or in absolute form, nothing normalized."""
    assert _head(b"GET %s HTTP/1.1" % target, _HOST).request.path == path


@pytest.mark.parametrize(
    ("lines", "status"),
    (
        ((b"",), 400),
        ((b"GET",), 400),
        ((b"GET /",), 400),
        ((b"GET  / HTTP/1.1", _HOST), 400),
        ((b"GET / HTTP/1.1 ", _HOST), 400),
        ((b"G\0T / HTTP/1.1", _HOST), 400),
        ((b"GET /\xff HTTP/1.1", _HOST), 400),
        ((b"GET / HTTP/9.9", _HOST), 505),
        ((b"GET / HTTP/2.0", _HOST), 505),
        ((b"GET / HTTP/1.10", _HOST), 400),
        ((b"GET / http/1.1", _HOST), 400),
        ((b"GET /%zz HTTP/1.1", _HOST), 400),
        ((b"GET /%00 HTTP/1.1", _HOST), 400),
        ((b"GET /%0d%0a HTTP/1.1", _HOST), 400),
        ((b"GET /%ff HTTP/1.1", _HOST), 400),
        ((b"GET /#x HTTP/1.1", _HOST), 400),
        ((b"GET metrics HTTP/1.1", _HOST), 400),
        ((b"OPTIONS * HTTP/1.1", _HOST), 400),
        ((b"CONNECT localhost:1 HTTP/1.1", _HOST), 400),
        ((b"GET ftp://localhost/ HTTP/1.1", _HOST), 400),
        ((b"GET / HTTP/1.1",), 400),
        ((b"GET / HTTP/1.1", _HOST, _HOST), 400),
        ((b"GET / HTTP/1.1", _HOST, b"A : b"), 400),
        ((b"GET / HTTP/1.1", _HOST, b" folded"), 400),
        ((b"GET / HTTP/1.1", _HOST, b"A"), 400),
        ((b"GET / HTTP/1.1", _HOST, b": b"), 400),
        ((b"GET / HTTP/1.1", _HOST, b"A: b\0c"), 400),
        ((b"GET / HTTP/1.1", _HOST, b"A: b\nC: d"), 400),
        ((b"GET / HTTP/1.1", _HOST, b"A: b\rC: d"), 400),
        ((b"GET / HTTP/1.1", _HOST, b"Authorization: a", b"authorization: b"), 400),
        ((b"GET / HTTP/1.1", _HOST, b"Content-Length: -1"), 400),
        ((b"GET / HTTP/1.1", _HOST, b"Content-Length: +1"), 400),
        ((b"GET / HTTP/1.1", _HOST, b"Content-Length: \xb2"), 400),
        ((b"GET / HTTP/1.1", _HOST, b"Content-Length: 0, 5"), 400),
        ((b"GET / HTTP/1.1", _HOST, b"Content-Length: 5"), 413),
        ((b"POST / HTTP/1.1", _HOST, b"Transfer-Encoding: chunked"), 413),
        ((b"GET / HTTP/1.1", _HOST, *[b"A: b"] * 100), 431),
    ),
)
def test_what_is_no_plain_request_is_refused(lines, status):
    """With the status that says why."""
    with pytest.raises(RefusedError) as caught:
        _head(*lines)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    (
        (b"1.1", b"keep-alive", True),
        (b"1.1", b"close", False),
        (b"1.1", b"Upgrade, Close", False),
        (b"1.0", b"keep-alive", False),
    ),
)
def test_a_connection_goes_on_if_the_client_likes(version, connection, keep_alive):
    """With the usual version, and unless it says no."""
    head = _head(b"GET / HTTP/" + version, _HOST, b"Connection: " + connection)
    assert (head.keep_alive, head.takes_chunks) == (keep_alive, version == b"1.1")


@pytest.mark.parametrize("start", (b"\x16\x03\x01\x02", b"\r\n", b"GET /\n", b" GET"))
def test_what_will_never_be_a_request_is_refused_at_once(start):
    """Nobody waits for the rest of it."""
    with pytest.raises(RefusedError):
        check_start(start)


@pytest.mark.parametrize("start", (b"G", b"GET / HTTP/1.1", b"GET / HTTP/1.1\r\nHo"))
def test_what_may_become_a_request_is_waited_for(start):
    """Its line is not whole, or is one."""
    check_start(start)


_SOUP = st.lists(
    st.sampled_from(
        (
            *(b"GET", b"POST", b" ", b"/metrics", b"HTTP/1.1", b"HTTP/9.9", b"\r\n"),
            *(b"\r", b"\n", b"Host: a", b"Content-Length: ", b"5", b":", b"%2e"),
            *(b"%", b"\0", b"Transfer-Encoding: chunked", b"\xff", b"\t"),
        )
    )
    | st.binary(max_size=8)
).map(b"".join)


@given(_SOUP)
def test_whatever_comes_is_read_or_refused(head):
    """No other way out, and what is read is clean."""
    with suppress(RefusedError):
        request = parse_head(head, "").request
        assert request.path.startswith("/")
        assert request.path.isprintable()
        assert not set("\r\n\0") & set("".join(request.headers.values()))


@given(_SOUP)
def test_a_start_that_is_refused_has_no_good_end(head):
    """To be quick costs no request that would have been read."""
    try:
        parse_head(head, "")
    except RefusedError:
        return
    for end in range(1, len(head)):
        check_start(head[:end])


def test_an_answer_begins_with_its_status_and_headers():
    """In the order in which they matter to no one."""
    start = format_head(
        Response(status=HTTPStatus.NOT_FOUND, headers=(("Vary", "Accept"),)),
        framing=("Content-Length", "0"),
        keep_alive=False,
    )
    line, *headers, empty, end = start.decode().split("\r\n")
    assert (line, empty, end) == ("HTTP/1.1 404 Not Found", "", "")
    assert {h.partition(":")[0] for h in headers} == {
        *("Server", "Date", "Content-Type", "Vary", "Content-Length", "Connection")
    }


@given(st.text(alphabet=string.printable + "\0\x7f", min_size=1))
def test_no_header_breaks_out_of_its_line(value):
    """A view's mistake ends in an error, not in an answer within the answer."""
    response = Response(headers=(("X-A", value),))
    try:
        start = format_head(response, framing=None, keep_alive=True)
    except ValueError:
        assert not value.isprintable()
    else:
        assert start.count(b"\r\n") == 7
