"""LTF documents as bytes: strict JSON, one document a line."""

from collections.abc import Mapping
from typing import Any

import msgspec

from loopotel_prom import semconv
from loopotel_prom.errors import DocumentError
from loopotel_prom.plain import plain, plain_mapping, text

Document = dict[str, Any]

_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()


def encode(document: Mapping[str, Any]) -> bytes:
    """
    Spell a document as one line of JSON, without the newline.

    Where it holds values that JSON cannot carry, the span that has them, or the
    part that is no span, is made plain by itself (`loopotel_prom.plain`): none is
    cut for another.
    """
    try:
        return _encoder.encode(document)
    except Exception:  # noqa: BLE001 - a stranger's methods may raise anything
        return _encoder.encode(_parts(document))


def _parts(document: Mapping[str, Any]) -> Document:
    """Make plain, by itself, each part that needs it."""
    # Exact types alone: a stranger's mapping, or list, may have no end.
    if type(document) is not dict:
        return plain_mapping(document)
    try:
        parts: Document = {text(key): _part(document[key]) for key in document}
        spans = document.get("spans")
        if type(spans) is list or type(spans) is tuple:
            parts["spans"] = [_part(span) for span in spans]
    except Exception:  # noqa: BLE001 - a stranger's mapping may raise anything
        return plain_mapping(document)
    return parts


def _part(value: object) -> msgspec.Raw:
    try:
        return msgspec.Raw(_encoder.encode(value))
    except Exception:  # noqa: BLE001 - a stranger's methods may raise anything
        return msgspec.Raw(_encoder.encode(plain(value)))


def decode(data: bytes) -> Document:
    """
    Read one JSON object.

    Raises:
        DocumentError: The bytes are no JSON, or not an object. `offset` is the
            byte at which reading failed, where that is known.
    """
    try:
        document = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = _reread(data)
    if not isinstance(document, dict):
        kind = "null" if document is None else type(document).__name__
        raise DocumentError(f"a JSON object is needed, this is {kind}")
    return document


def _reread(data: bytes) -> Any:
    """
    Read again with the standard library what the fast decoder refused.

    It takes what is JSON by the letter only (an escaped lone surrogate), and
    knows better where the fault is.
    """
    # Here, not above: only bad input needs it.
    import json  # noqa: PLC0415

    try:
        words = data.decode()
    except UnicodeDecodeError as error:
        raise DocumentError("not UTF-8", offset=error.start) from error
    try:
        return json.loads(words, parse_constant=_refuse)
    except DocumentError:
        raise
    except json.JSONDecodeError as error:
        offset = len(words[: error.pos].encode())
        reason = error.msg[0].lower() + error.msg[1:].partition(" (")[0]
        if not words[error.pos :].strip():
            reason = "ends in the middle"
        raise DocumentError(f"not JSON: {reason}", offset=offset) from error
    except RecursionError as error:
        raise DocumentError("nested too deeply") from error
    except ValueError as error:
        # Python reads no number of more than 4,300 digits.
        raise DocumentError("not JSON that can be read: a number too long") from error


def _refuse(constant: str) -> None:
    raise DocumentError(f"not JSON: {constant} is no JSON number")


def check_version(schema_version: object) -> None:
    """
    See that a document is one of LTF 0.1.

    Raises:
        DocumentError: Its `schema_version` says something else.
    """
    if schema_version != semconv.SCHEMA_VERSION:
        raise DocumentError(
            f"its schema_version is {text(schema_version, limit=64)!r},"
            f" not {semconv.SCHEMA_VERSION!r}"
        )
