"""
JSON read value by value from pieces of bytes.

The values themselves are left to the standard library's scanner, which is
given all the text there is; what it cannot end yet it is given again, with at
least as much text more. So a value costs a small multiple of its length, and no
more is in memory than one value, or one piece, and as much again. Objects of one
kind that stand in a row are left to msgspec, many at once: three times as fast.
"""

import codecs
import json
import re
from collections.abc import Iterable
from typing import Any, Never

import msgspec

from loopotel_prom.errors import DocumentError

MAX_VALUE_BYTES = 64 * 1024**2

_BLANKS = " \t\n\r"
_BLANK = re.compile(f"[{_BLANKS}]*")
_OBJECT = re.compile(rf'\{{[{_BLANKS}]*"[^"\\]*"')
# A number, word or escape that is cut by the end of the text makes the scanner
# stop this near to it: the longest of them is `-Infinity`.
_CUT_CHARACTERS = 16


class Parser:
    """A place in a JSON text that is read while it is parsed."""

    def __init__(
        self, pieces: Iterable[bytes], *, max_value_bytes: int = MAX_VALUE_BYTES
    ) -> None:
        self._pieces = iter(pieces)
        self._limit = max_value_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._position = 0
        # Of where the text begins, and of where reading stands.
        self._characters = 0
        self._offset = 0
        self._read = 0
        self._one_by_one_until = 0

    @property
    def characters(self) -> int:
        """Count the characters parsed so far."""
        return self._characters + self._position

    def peek(self) -> str:
        """Skip white space and show the next character; nothing at the end."""
        while True:
            blank = _BLANK.match(self._text, self._position)
            self._position = blank.end() if blank else self._position
            if self._position < len(self._text):
                return self._text[self._position]
            if not self._read_on():
                return ""

    def take(self, allowed: str, missing: str) -> str:
        """
        Take the next character, one of those allowed.

        Raises:
            DocumentError: It is another; the message says what is missing.
        """
        character = self.peek()
        if not character or character not in allowed:
            self.fail(missing)
        self._position += 1
        return character

    def value(self) -> Any:
        """
        Parse one value.

        Raises:
            DocumentError: It is no JSON, or longer than the limit.
        """
        self.peek()
        while True:
            try:
                value, end = _scan(self._text, self._position)
            except json.JSONDecodeError as error:
                if not (self._may_be_cut(error) and self._read_on()):
                    self.fail(error.msg, error.pos)
            except (RecursionError, ValueError) as error:
                raise DocumentError(_fault(error), offset=self._here()) from error
            else:
                if not self._may_be_longer(value, end) or not self._read_on():
                    self._position = end
                    return value

    def objects(self, characters: int) -> list[Any]:
        """
        Parse as many elements of an array as can be had cheaply, maybe none.

        They, and the comma behind each, stand within so many characters. What
        `value` would not parse is not parsed here either, but left to it.
        """
        self.peek()
        first = _OBJECT.match(self._text, self._position)
        if first is None or self.characters < self._one_by_one_until:
            return []
        # The last that begins alike is most likely an element as well. If what
        # stands before it is whole, it is: JSON has no other way to read it.
        last = self._text.rfind(first[0], first.end(), self._position + characters)
        if last < 0:
            return []
        row, _, blank = self._text[self._position : last].rpartition(",")
        if not row or blank.strip(_BLANKS):
            return []
        try:
            found: list[Any] = _decoder.decode(f"[{row}]")
        except (msgspec.DecodeError, RecursionError):
            self._one_by_one_until = self.characters + characters
            return []
        self._position = last
        return found

    def fail(self, message: str, position: int | None = None) -> Never:
        """
        Say what is wrong here, or at another position in the text.

        Raises:
            DocumentError: Always.
        """
        at = self._position if position is None else position
        reason = message[0].lower() + message[1:].partition(" (")[0]
        if not self._text[at:].strip():
            reason = "ends in the middle"
        raise DocumentError(f"not JSON: {reason}", offset=self._here(at))

    def refuse(self, fault: str) -> Never:
        """
        Refuse what stands here, though it may be JSON.

        Raises:
            DocumentError: Always.
        """
        raise DocumentError(fault, offset=self._here())

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        """Tell whether the fault may be that the text ends here."""
        left = len(self._text) - error.pos
        return left <= _CUT_CHARACTERS or error.msg.startswith("Unterminated")

    def _may_be_longer(self, value: object, end: int) -> bool:
        """Tell whether more of a number may follow."""
        left = len(self._text) - end
        return left <= _CUT_CHARACTERS and isinstance(value, int | float)

    def _here(self, position: int | None = None) -> int:
        """Give the offset of a place in the text, in bytes."""
        at = self._position if position is None else position
        return self._offset + len(self._text[:at].encode())

    def _read_on(self) -> bool:
        """Read as much again as waits to be parsed; False at the end."""
        here = self._here()
        room = self._limit - (self._read - here)
        if room < 0:
            self.refuse(f"a value longer than {self._limit} bytes")
        waiting = self._text[self._position :]
        fresh = self._decoded(min(len(waiting), room))
        if not fresh:
            return False
        self._characters += self._position
        self._offset, self._position = here, 0
        self._text = waiting + fresh
        return True

    def _decoded(self, least: int) -> str:
        """Decode more characters than the least; fewer at the end only."""
        parts: list[str] = []
        for piece in self._pieces:
            parts.append(self._decode(piece))
            least -= len(parts[-1])
            if least < 0:
                break
        else:
            self._decode(b"", final=True)
        return "".join(parts)

    def _decode(self, piece: bytes, *, final: bool = False) -> str:
        kept = len(self._utf8.getstate()[0])
        try:
            words = self._utf8.decode(piece, final)
        except UnicodeDecodeError as error:
            offset = self._read - kept + error.start
            raise DocumentError("not UTF-8", offset=offset) from error
        self._read += len(piece)
        return words


def _refuse(constant: str) -> Never:
    raise DocumentError(f"not JSON: {constant} is no JSON number")


def _fault(error: Exception) -> str:
    if isinstance(error, DocumentError):
        return str(error)
    if isinstance(error, RecursionError):
        return "nested too deeply"
    # Python reads no number of more than 4,300 digits.
    return "not JSON that can be read: a number too long"


_decoder = msgspec.json.Decoder()
_scan = json.JSONDecoder(parse_constant=_refuse).raw_decode
