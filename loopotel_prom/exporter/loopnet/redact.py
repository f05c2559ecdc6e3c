"""Records without secrets, or without free text, and errors without values."""

import hmac
import re
from functools import cache
from typing import Any, Final

from loopotel_prom.errors import DocumentError
from loopotel_prom.exporter.loopnet.options import RecordOptions
from loopotel_prom.exporter.loopnet.schema import CUT
from loopotel_prom.exporter.loopnet.slug import slug_of
from loopotel_prom.exporter.redaction import MARK, Removed, Scanner, redacted

OBJECTIVE: Final = "The objective of this loop is not published."
_NAME: Final = "loop-redacted"
_HASH_DIGITS = 16
# From the first quotation mark, or bracket, to the last: a value may have some, too.
# To the end where the message was cut: what is last there may be within the value.
_VALUES = re.compile(rf"[\'\"\[{{].*(?:{CUT}\Z|[\'\"\]}}])", re.DOTALL)


@cache
def scanner() -> Scanner:
    """
    Give this process' scanner.

    Raises:
        MissingExtraError: detect-secrets is not installed.
    """
    return Scanner()


def redact_record(
    record: dict[str, Any], loop_name: str, options: RecordOptions
) -> None:
    """
    Take out of a record what its options say, and list it in `redaction`.

    Args:
        record: Changed in place.
        loop_name: As the loop spells it: of a slug no secret could be told.
        options: The level, and perhaps a key.

    Raises:
        MissingExtraError: The level is `basic`, and there is no scanner.
    """
    removed = Removed()
    if options.redaction == "full":
        _without_text(record, loop_name, options.redaction_key, removed)
    else:
        _without_secrets(record, loop_name, removed)
    record["redaction"] = {
        "level": options.redaction,
        "fields_removed": list(removed),
    }


def without_values(error: DocumentError) -> DocumentError:
    """Give an error that says where and what, and quotes nothing."""
    return DocumentError(_VALUES.sub(MARK, str(error)), offset=error.offset)


def _without_secrets(record: dict[str, Any], loop_name: str, removed: Removed) -> None:
    clean = scanner().clean(loop_name)
    if clean != loop_name:
        record["loop_name"] = slug_of(clean)
        removed.add("loop_name")
    for name in ("objective", "loop_spec"):
        if name in record:
            record[name] = redacted(record[name], name, scanner(), removed)
    if "tags" in record["metadata"]:
        tags = redacted(record["metadata"]["tags"], "metadata.tags", scanner(), removed)
        record["metadata"]["tags"] = list(dict.fromkeys(tags))


def _without_text(
    record: dict[str, Any], loop_name: str, key: bytes | None, removed: Removed
) -> None:
    record["loop_name"] = _NAME
    if key is not None:
        # A hash without a key is no secret: names are few, and can be tried.
        digest = hmac.digest(key, loop_name.encode(errors="replace"), "sha256")
        record["loop_name"] = f"loop-{digest.hex()[:_HASH_DIGITS]}"
    record["objective"] = OBJECTIVE
    removed += ["loop_name", "objective"]
    if record.pop("loop_spec", None) is not None:
        removed.add("loop_spec")
    if record["metadata"].pop("tags", None) is not None:
        removed.add("metadata.tags")
