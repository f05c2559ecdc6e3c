"""LTF documents as bytes: strict JSON, one document a line."""

from collections.abc import Mapping
from typing import Any

import msgspec

from loopotel_prom.errors import DocumentError
from loopotel_prom.plain import plain_mapping

Document = dict[str, Any]

_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()


def encode(document: Mapping[str, Any]) -> bytes:
    """
    Spell a document as one line of JSON, without the newline.

    Values that JSON cannot carry are made plain (`loopotel_prom.plain`).
    """
    try:
        line = _encoder.encode(document)
    except (TypeError, ValueError, OverflowError, RecursionError):
        line = _encoder.encode(plain_mapping(document))
    return line


def decode(data: bytes) -> Document:
    """
    Read one JSON object.

    Raises:
        DocumentError: The bytes are no JSON, or not an object. `offset` is the
            byte at which reading failed, where that is known.
    """
    try:
        document = _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise _not_json(str(error), len(data)) from error
    except UnicodeDecodeError as error:
        raise DocumentError("not UTF-8", offset=error.start) from error
    except RecursionError as error:
        raise DocumentError("nested too deeply") from error
    if not isinstance(document, dict):
        kind = "null" if document is None else type(document).__name__
        raise DocumentError(f"a JSON object is needed, this is {kind}")
    return document


def _not_json(message: str, size: int) -> DocumentError:
    """Say what the decoder said, its byte offset taken out of the words."""
    words, _, place = message.partition(" (byte ")
    offset = int(place.rstrip(")")) if place.rstrip(")").isdigit() else None
    if "truncated" in words:
        return DocumentError("not JSON: ends in the middle", offset=size)
    reason = words.removeprefix("JSON is malformed: ")
    return DocumentError(f"not JSON: {reason}", offset=offset)
