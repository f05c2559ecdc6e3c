"""Packing: a body in the content coding that its client likes best."""

import gzip
from collections.abc import Callable
from dataclasses import replace

from loopotel_prom.metrics.negotiation import choose_encoding
from loopotel_prom.web.message import Request, Response
from loopotel_prom.zstandard import zstd

# Less gains nothing.
_WORTH_PACKING = 1024
_PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda body: gzip.compress(body, compresslevel=1),
    "zstd": zstd.compress,
}


def packed(request: Request, response: Response) -> Response:
    """Pack a body that is long enough; one that comes in pieces stays as it is."""
    body = response.body
    if not isinstance(body, bytes) or len(body) <= _WORTH_PACKING:
        return response
    vary = ", ".join(filter(None, (response.header("Vary"), "Accept-Encoding")))
    others = [each for each in response.headers if each[0].lower() != "vary"]
    headers = (*others, ("Vary", vary))
    coding = choose_encoding(request.headers.get("accept-encoding"), tuple(_PACKERS))
    if coding not in _PACKERS:
        return replace(response, headers=headers)
    return replace(
        response,
        body=_PACKERS[coding](body),
        headers=(*headers, ("Content-Encoding", coding)),
    )
