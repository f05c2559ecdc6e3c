"""The server: it accepts, takes in what comes, hands over what is to be answered."""

import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from loopotel_prom.web.connection import Connection, Reception
from loopotel_prom.web.crew import Crew
from loopotel_prom.web.limits import Limits

_log = logging.getLogger("loopotel_prom")

# How late a client that is too slow may be noticed.
_LOOK_SECONDS = 0.05
# How soon to look again while clients wait for others.
_SOON_SECONDS = 0.01
# When the process has no descriptor left, say: to try again at once would be a loop.
_PAUSE_SECONDS = 0.05
_CLOSE_SECONDS = 5.0
_ACCEPTED_AT_ONCE = 32


_Row = dict[Connection, None]


class Service(Protocol):
    """What is served."""

    def reception(self) -> Reception:
        """Give the terms as they are now; the same object until they change."""


class Server:
    """
    Serves a service on listening sockets, in threads that end with the process.

    One thread accepts and waits for all clients at once. However many connect and
    say nothing, or one byte at a time, they take no thread: only a whole request,
    and a step of a TLS handshake, goes to the crew.

    Args:
        listeners: Sockets that listen; the server closes them.
        service: What is served.
        limits: What clients may take.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        service: Service,
        limits: Limits | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._listeners = listeners
        self._service = service
        self._crew = Crew(self._limits, self._serve)
        # Those whose clients have to send; the longest silent first, in two rows:
        # those that never have, and those that have.
        self._rows: tuple[_Row, _Row] = {}, {}
        self._returned: deque[Connection] = deque()
        self._looked = 0.0
        self._is_paused = False
        self._is_closing = False
        self._alarm, self._wake = socket.socketpair()
        self._alarm.setblocking(False)
        self._selector = selectors.DefaultSelector()
        for each in (*listeners, self._wake):
            each.setblocking(False)
            self._selector.register(each, selectors.EVENT_READ)
        self._thread = threading.Thread(
            target=self._run, name="loopotel-endpoint", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; requests under way are finished, for some seconds."""
        self._is_closing = True
        self._ring()
        self._thread.join(timeout=_CLOSE_SECONDS)
        self._crew.close(_CLOSE_SECONDS)
        self._close_sockets()

    def abandon(self) -> None:
        """Give all sockets up in a forked child; the parent goes on."""
        self._crew.abandon()
        self._close_sockets()

    def _close_sockets(self) -> None:
        # Only closed, not unregistered: the system's list is shared with a parent.
        self._selector.close()
        for connection in (*self._rows[0], *self._rows[1], *self._returned):
            connection.close()
        for listener in self._listeners:
            listener.close()
        self._alarm.close()
        self._wake.close()

    # In the server's thread.

    def _run(self) -> None:
        while not self._is_closing:
            for key, _ in self._selector.select(self._patience()):
                if isinstance(key.fileobj, Connection):
                    self._take_in(key.data, key.fileobj)
                elif key.fileobj is self._wake:
                    self._wake.recv(4096)
                else:
                    self._accept(key.fileobj)  # type: ignore[arg-type]  # a listener
            while self._returned:
                self._wait_for(self._returned.popleft())
            self._look()
            if self._is_paused and not self._is_full_of_young():
                self._pause(pausing=False)

    def _patience(self) -> float | None:
        """Give how long nothing but clients and threads need attention."""
        if self._is_paused or not self._crew.has_time():
            return _SOON_SECONDS
        deadlines = [connection.deadline for row in self._rows for connection in row]
        if not deadlines:
            return None
        next_deadline = min(deadlines)
        return max(next_deadline - time.monotonic(), _LOOK_SECONDS)

    def _look(self) -> None:
        """End those who are late."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        for row in self._rows:
            for connection in [c for c in row if c.deadline <= now]:
                self._end(row, connection)
        self._crew.relieve()

    def _accept(self, listener: socket.socket) -> None:
        """Accept all who have come, up to what would keep the others waiting."""
        for _ in range(_ACCEPTED_AT_ONCE):
            if self._is_full_of_young():
                self._pause(pausing=True)
                return
            try:
                stream, address = listener.accept()
            except (BlockingIOError, ConnectionError, InterruptedError):
                return
            except OSError as error:
                _log.debug("a connection cannot be accepted: %s", error)
                self._end_the_longest_silent(self._rows[0] or self._rows[1])
                time.sleep(_PAUSE_SECONDS)
                return
            self._welcome(stream, address)

    def _is_full_of_young(self) -> bool:
        return any(
            len(row) >= self._limits.connections and next(iter(row)).is_young()
            for row in self._rows
        )

    def _pause(self, *, pausing: bool) -> None:
        """Stop accepting for a moment, or go on."""
        if pausing is self._is_paused:
            return
        self._is_paused = pausing
        for listener in self._listeners:
            if pausing:
                self._selector.unregister(listener)
            else:
                self._selector.register(listener, selectors.EVENT_READ)

    def _welcome(self, stream: socket.socket, address: object) -> None:
        try:
            if stream.family != getattr(socket, "AF_UNIX", None):
                # An answer's head and body must not wait for each other.
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            stream.close()
            return
        client = str(address[0]) if isinstance(address, tuple) else ""
        reception = self._service.reception()
        self._wait_for(Connection(stream, client, self._limits, reception))

    def _wait_for(self, connection: Connection) -> None:
        row = self._rows[connection.has_spoken]
        most = self._limits.connections
        # Those that were let in before there was a pause may still all shake hands.
        if len(row) >= 2 * most or (
            len(row) >= most and not next(iter(row)).is_young()
        ):
            self._end_the_longest_silent(row)
        row[connection] = None
        self._selector.register(connection, selectors.EVENT_READ, row)

    def _end_the_longest_silent(self, row: _Row) -> None:
        for connection in row:
            self._end(row, connection)
            return

    def _take_in(self, row: _Row, connection: Connection) -> None:
        if connection not in row:
            # Ended meanwhile, in place of another.
            return
        try:
            is_due = connection.receive()
        except OSError as error:
            _log.debug("a connection ended: %s", error)
            self._end(row, connection)
            return
        del row[connection]
        self._selector.unregister(connection)
        if is_due:
            self._crew.hand_over(connection)
        else:
            # It has been heard of: to the end of the row.
            self._wait_for(connection)

    def _end(self, row: _Row, connection: Connection) -> None:
        del row[connection]
        self._selector.unregister(connection)
        connection.close()

    # In a thread of the crew.

    def _serve(self, connection: Connection) -> None:
        """Answer what is due. Clients may go away at any time."""

        def go_on() -> bool:
            # New terms are for new connections.
            terms = self._service.reception()
            return self._crew.has_time() and terms is connection.reception

        stays = False
        try:
            stays = connection.answer(go_on)
        except OSError as error:
            _log.debug("a connection ended: %s", error)
        except Exception:  # noqa: BLE001 - a fault of ours ends one connection, not a thread
            _log.exception("a connection ended by a fault of the endpoint")
        if stays and not self._is_closing:
            self._returned.append(connection)
            self._ring()
        else:
            connection.close()

    def _ring(self) -> None:
        try:
            self._alarm.send(b"!")
        except BlockingIOError:
            # Full: it rings already.
            return
        except OSError:
            # Closed; so will be what has been returned.
            return
