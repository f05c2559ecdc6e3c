"""The schema of ``ln/record-v1``, and its verdict on what we made."""

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

from loopotel_prom.errors import DocumentError

_SCHEMA = "specs/ln-record-v1.schema.json"
_SAID_CHARACTERS = 300
# What a message ends with that says more than that.
CUT: Final = "…"


def load_record_schema() -> dict[str, Any]:
    """Read the JSON Schema (Draft 2020-12) of a record; each call gives its own."""
    package = Path(__file__).parents[2]
    # A wheel carries the schema within the package, a checkout beside it.
    installed = package / _SCHEMA
    path = installed if installed.exists() else package.parent / _SCHEMA
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


def check(record: dict[str, Any]) -> None:
    """
    Let a record pass that follows the schema.

    Raises:
        DocumentError: It does not; the message has the first finding.
    """
    try:
        if _fast().is_valid(record):
            return
    except ValueError as error:
        # Text that is not UTF-8, or nested too deeply.
        raise DocumentError(f"the record cannot be judged: {error}") from error
    errors = _authority().iter_errors(record)
    found = sorted(f"{error.json_path}: {error.message}" for error in errors)
    # jsonschema_rs may be the stricter of the two; its verdict stands.
    reason = found[0] if found else "a value that the schema has no room for"
    raise DocumentError(f"no valid record: {_short(reason)}")


def _short(reason: str) -> str:
    # The mark at the end tells redaction that a quotation may not be closed.
    if len(reason) <= _SAID_CHARACTERS:
        return reason
    return reason[: _SAID_CHARACTERS - 1] + CUT


@cache
def _fast() -> Any:
    # Here, not above: most programs that import this module never export.
    import jsonschema_rs  # noqa: PLC0415

    schema = load_record_schema()
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=False)


@cache
def _authority() -> Any:
    # Here, not above: 100 ms to import, and needed for what is refused only.
    from jsonschema import Draft202012Validator  # noqa: PLC0415

    return Draft202012Validator(load_record_schema())
