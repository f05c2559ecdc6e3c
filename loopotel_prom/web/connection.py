"""
One connection: requests read against the clock, answers sent against it.

It belongs to one thread at a time. The server's takes in what comes, without waiting;
one of the crew's shakes hands and answers.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Protocol

from loopotel_prom.web.limits import Limits
from loopotel_prom.web.message import Request, Response, plain
from loopotel_prom.web.wire import (
    END,
    Head,
    RefusedError,
    check_start,
    format_head,
    parse_head,
)

_CHUNK_BYTES = 64 * 1024
# What a client that is refused may still send until it reads why.
_LINGER_SECONDS = 0.25
_LINGER_BYTES = 256 * 1024

Certificate = Mapping[str, object]


class Reception(Protocol):
    """Receives those who come by one set of terms: TLS, users, headers."""

    def secure(self, stream: socket.socket) -> socket.socket:
        """Put TLS around a new connection, without waiting for anything."""

    def admits(self, certificate: Certificate | None) -> bool:
        """Whether one that has shown this certificate may ask."""

    def respond(self, request: Request) -> Response:
        """Answer."""


class Connection:
    """
    A client's connection.

    Args:
        stream: Its socket.
        client: Who it is: an IP address, or nothing.
        limits: What it may take.
        reception: The terms it has come by, and stays with.

    Attributes:
        has_spoken: Whether its client has ever sent something.
        deadline: When the client must have sent what is due, monotonic seconds.
        stalled_since: When it last took something of the answer that it is being
            sent; None while it is not.
    """

    def __init__(
        self,
        stream: socket.socket,
        client: str,
        limits: Limits,
        reception: Reception,
    ) -> None:
        self.reception = reception
        self._stream = stream
        self._client = client
        self._limits = limits
        self._buffer = b""
        # Until then a request is still coming, or not even that.
        self._due: Head | RefusedError | None = None
        self._is_secured = self._is_idle = self._is_refused = False
        self._lingered_bytes = 0
        self._begun = time.monotonic()
        self.has_spoken = False
        self.deadline = self._begun + limits.handshake_seconds
        self.stalled_since: float | None = None
        stream.setblocking(False)

    def is_young(self) -> bool:
        """Whether its client has hardly had the time to ask, or to shake hands."""
        if not self.has_spoken:
            return time.monotonic() < self._begun + self._limits.young_seconds
        if not self._is_secured:
            return time.monotonic() < self._begun + self._limits.greeting_seconds
        return False

    def fileno(self) -> int:
        """Give its socket's descriptor, to wait for."""
        return self._stream.fileno()

    def close(self) -> None:
        """Give the socket back."""
        self._stream.close()

    def evict(self) -> None:
        """End the sending of an answer, from another thread."""
        with contextlib.suppress(OSError):
            # Not the method of SSLSocket, which takes TLS away under its user.
            socket.socket.shutdown(self._stream, socket.SHUT_RDWR)

    # Receiving, without waiting.

    def receive(self) -> bool:
        """
        Take in what has come.

        Returns:
            Whether there is something for `answer` to do.

        Raises:
            OSError: The client is gone.
        """
        if not self._is_secured:
            return True
        try:
            while self._due is None:
                self._take(self._stream.recv(self._limits.head_bytes))
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        return True

    def _take(self, received: bytes) -> None:
        if not received:
            raise ConnectionResetError("the client has gone")
        self.has_spoken = True
        if self._is_refused:
            self._lingered_bytes += len(received)
            if self._lingered_bytes > _LINGER_BYTES:
                raise ConnectionAbortedError("refused, and still sending")
            return
        if self._is_idle:
            self._is_idle = False
            self._await_head()
        self._buffer += received
        self._read_head()

    def _await_head(self) -> None:
        self._begun = time.monotonic()
        self.deadline = self._begun + self._limits.head_seconds

    def _read_head(self) -> None:
        """See whether a whole head has come."""
        try:
            self._due = self._parsed_head()
        except RefusedError as error:
            self._due, self._buffer = error, b""

    def _parsed_head(self) -> Head | None:
        head, end, rest = self._buffer.partition(END)
        if len(head) > self._limits.head_bytes:
            raise RefusedError(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too long"
            )
        if not end:
            if head:
                check_start(head)
            return None
        self._buffer = rest
        return parse_head(head, self._client)

    # Answering.

    def answer(self, go_on: Callable[[], bool]) -> bool:
        """
        Do what is due: shake hands, answer all requests that have come.

        Args:
            go_on: Whether, as things are now, a connection may stay.

        Returns:
            Whether to wait for more. If not, it is over.

        Raises:
            OSError: The client is gone, too slow, or may not ask.
        """
        if not self._is_secured and not self._shake_hands():
            self.has_spoken = True
            return True
        while self.receive():
            due, self._due = self._due, None
            if isinstance(due, RefusedError):
                self._refuse(due)
            elif due is not None and not self._answer(due, go_on):
                return False
        return True

    def _shake_hands(self) -> bool:
        """Go on with the handshake; tell whether it is over."""
        if not isinstance(self._stream, ssl.SSLSocket):
            self._stream = self.reception.secure(self._stream)
        if isinstance(self._stream, ssl.SSLSocket):
            try:
                self._stream.do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            if not self.reception.admits(self._stream.getpeercert()):
                raise PermissionError("its certificate names nobody who is allowed")
            self.deadline = time.monotonic() + self._limits.head_seconds
        self._is_secured = True
        return True

    def _answer(self, head: Head, go_on: Callable[[], bool]) -> bool:
        waited = time.monotonic() - self._begun
        response = self.reception.respond(head.request)
        keep_alive = head.keep_alive and go_on()
        if not self._send(response, head, keep_alive=keep_alive, waited=waited):
            return False
        self._is_idle = not self._buffer
        self.deadline = time.monotonic() + self._limits.idle_seconds
        if self._buffer:
            self._await_head()
            self._read_head()
        return True

    def _refuse(self, refusal: RefusedError) -> None:
        """Say why, and let the client read it: to close at once would destroy it."""
        answer = plain(refusal.status, str(refusal))
        self._send(answer, None, keep_alive=False, waited=0.0)
        socket.socket.shutdown(self._stream, socket.SHUT_WR)
        self._is_refused = True
        self.deadline = time.monotonic() + _LINGER_SECONDS

    # Sending.

    def _send(
        self, response: Response, head: Head | None, *, keep_alive: bool, waited: float
    ) -> bool:
        """Send an answer; tell whether the connection can go on."""
        seconds = self._limits.request_seconds - waited
        body, is_asked = response.body, head is None or head.request.method != "HEAD"
        in_chunks = head is not None and head.takes_chunks
        if isinstance(body, bytes):
            length = ("Content-Length", str(len(body)))
            framing = length if body or is_asked else None
        else:
            keep_alive = keep_alive and in_chunks
            framing = ("Transfer-Encoding", "chunked") if in_chunks else None
        start = format_head(response, framing=framing, keep_alive=keep_alive)
        if not is_asked:
            self._send_bytes(start, seconds)
        elif isinstance(body, bytes):
            self._send_bytes(start + body, seconds)
        else:
            self._send_bytes(start, seconds)
            self._send_pieces(body, in_chunks=in_chunks)
        if is_asked:
            response.delivered()
        return keep_alive

    def _send_pieces(self, pieces: Iterable[bytes], *, in_chunks: bool) -> None:
        """Send a body of unknown length; each piece has the time of an answer."""
        seconds = self._limits.request_seconds
        for piece in pieces:
            if piece:
                chunk = b"%x\r\n%s\r\n" % (len(piece), piece) if in_chunks else piece
                self._send_bytes(chunk, seconds)
        if in_chunks:
            self._send_bytes(b"0\r\n\r\n", seconds)

    def _send_bytes(self, data: bytes, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        try:
            for begin in range(0, len(data), _CHUNK_BYTES):
                self.stalled_since = now = time.monotonic()
                if now >= deadline:
                    raise TimeoutError("the client takes its answer too slowly")
                self._stream.settimeout(deadline - now)
                self._stream.sendall(memoryview(data)[begin : begin + _CHUNK_BYTES])
        finally:
            self.stalled_since = None
            self._stream.setblocking(False)
