"""Limits of the server."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    What clients may take of a process that has better things to do.

    Attributes:
        threads: As many requests are answered at a time. To wait takes no thread.
        connections: Whose clients have to send: so many that never have, and so many
            that have. For one more, the one goes that has been silent longest; a
            crowd that says nothing does not drive out who is shaking hands.
        young_seconds: Until then a new connection is not driven out: it takes a
            client some time to ask. Others wait in the backlog.
        greeting_seconds: Until then one that shakes hands is not driven out.
        backlog: Connections that the system holds until they are accepted. A client
            that finds no room there tries again after a second, too late for a
            scrape; so there is room for hundreds at once.
        head_bytes: Of a request's head.
        handshake_seconds: From a connection to the end of its TLS handshake.
        head_seconds: From a request's first byte, or the connection, to its head's
            end.
        request_seconds: Of waiting for the client, in all, for one request: what is
            left after its head is for taking the answer.
        idle_seconds: Between two requests: more than the minute between two scrapes.
        stalled_seconds: After which one that takes nothing of its answer has to go
            if others wait for its thread.
    """

    threads: int = 16
    connections: int = 96
    young_seconds: float = 0.05
    greeting_seconds: float = 0.15
    backlog: int = 1024
    head_bytes: int = 16 * 1024
    handshake_seconds: float = 2.0
    head_seconds: float = 2.0
    request_seconds: float = 5.0
    idle_seconds: float = 75.0
    stalled_seconds: float = 0.1
