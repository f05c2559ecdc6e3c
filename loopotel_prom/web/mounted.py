"""The site in a server of the user's own: as a WSGI app, and as an ASGI app."""

import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from loopotel_prom.exposed import Exposed, exposed
from loopotel_prom.web.application import Application
from loopotel_prom.web.message import Request, Response
from loopotel_prom.web.page import MetricsPage
from loopotel_prom.web.scrapes import Scrapes
from loopotel_prom.web.site import MAX_REQUESTS, TELEMETRY_PATH, build_site

StartResponse = Callable[[str, list[tuple[str, str]]], object]
WsgiApp = Callable[[Mapping[str, Any], StartResponse], Iterable[bytes]]

Event = Mapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]]


def wsgi_app(
    *, telemetry_path: str = TELEMETRY_PATH, max_requests: int = MAX_REQUESTS
) -> WsgiApp:
    """
    Give a WSGI app of what this process exposes, whenever it is configured.

    It can be mounted below a path. Who may ask is the server's business: the users
    of a web configuration are those of the endpoint alone.

    Args:
        telemetry_path: Where the metrics are, below the app's own path. With ``/``
            the app is nothing but metrics and health.
        max_requests: How many scrapes are answered at a time; 0 for any number.
    """
    mounted = _Mounted(telemetry_path, max_requests)

    def app(
        environ: Mapping[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        response = mounted.answer(_request_of_environ(environ))
        status = f"{response.status.value} {response.status.phrase}"
        start_response(status, _headers(response))
        return _sent(response, is_head=environ["REQUEST_METHOD"] == "HEAD")

    return app


def asgi_app(
    *, telemetry_path: str = TELEMETRY_PATH, max_requests: int = MAX_REQUESTS
) -> AsgiApp:
    """
    Give an ASGI app of what this process exposes, whenever it is configured.

    As `wsgi_app`. A page is made in a thread, so that the event loop goes on; where
    that is not asyncio's, it is made at once.
    """
    mounted = _Mounted(telemetry_path, max_requests)

    async def app(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await _answer(mounted, scope, send)
        else:
            # A WebSocket: there is none here.
            await send({"type": "websocket.close"})

    return app


class _Mounted:
    """Answers from the registry that is configured when it is asked."""

    def __init__(self, telemetry_path: str, max_requests: int) -> None:
        self._telemetry_path = telemetry_path
        self._max_requests = max_requests
        self._lock = threading.Lock()
        self._latest: tuple[Exposed, Application] | None = None

    def answer(self, request: Request) -> Response:
        return self._site()(request)

    def _site(self) -> Application:
        now = exposed()
        with self._lock:
            if self._latest is None or self._latest[0] != now:
                page = MetricsPage(
                    now.registry, now.collector, now.processor, now.health
                )
                site = build_site(
                    page,
                    Scrapes(),
                    telemetry_path=self._telemetry_path,
                    max_requests=self._max_requests,
                )
                self._latest = now, site
            return self._latest[1]


def _headers(response: Response) -> list[tuple[str, str]]:
    headers = [("Content-Type", response.content_type), *response.headers]
    if isinstance(response.body, bytes) and response.body:
        headers.append(("Content-Length", str(len(response.body))))
    return headers


def _sent(response: Response, *, is_head: bool) -> Iterator[bytes]:
    """Give the body's pieces; whoever asks for one more has sent the one before."""
    if is_head:
        return
    body = response.body
    yield from (body,) if isinstance(body, bytes) else body
    response.delivered()


def _request_of_environ(environ: Mapping[str, Any]) -> Request:
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    return Request(
        method=environ["REQUEST_METHOD"],
        path=_path(_decoded(environ.get("PATH_INFO", ""))),
        query=environ.get("QUERY_STRING", ""),
        headers=headers,
        prefix=_decoded(environ.get("SCRIPT_NAME", "")).rstrip("/"),
        client=environ.get("REMOTE_ADDR", ""),
    )


def _decoded(text: str) -> str:
    # PEP 3333: the path's bytes, one character each.
    return text.encode("latin-1", "replace").decode("utf-8", "replace")


def _path(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def _request_of_scope(scope: Mapping[str, Any]) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    prefix = str(scope.get("root_path", "")).rstrip("/")
    path = str(scope["path"])
    # The path has the prefix in it, or not: servers and frameworks differ.
    if prefix and (path == prefix or path.startswith(f"{prefix}/")):
        path = path.removeprefix(prefix)
    client = scope.get("client")
    return Request(
        method=scope["method"],
        path=_path(path),
        query=scope.get("query_string", b"").decode("latin-1"),
        headers=headers,
        prefix=prefix,
        client=str(client[0]) if client else "",
    )


async def _live(receive: Receive, send: Send) -> None:
    """Take part in the server's start and end."""
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return


async def _answer(mounted: _Mounted, scope: Mapping[str, Any], send: Send) -> None:
    request = _request_of_scope(scope)
    response = await _in_thread(lambda: mounted.answer(request))
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in _headers(response)
    ]
    status = response.status.value
    await send({"type": "http.response.start", "status": status, "headers": headers})
    pieces = iter(_sent(response, is_head=request.method == "HEAD"))
    while (piece := await _in_thread(lambda: next(pieces, None))) is not None:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _in_thread(make: Callable[[], Any]) -> Any:
    import asyncio  # noqa: PLC0415 - slow to import, and mostly not needed

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return make()
    return await asyncio.to_thread(make)
