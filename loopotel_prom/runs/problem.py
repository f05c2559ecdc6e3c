"""What a check of an archive finds, and what is to be done about it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from loopotel_prom.archive.lines import BadLine, Line, LongLine

# Damage: something is lost or cannot be read. Warning: something may become
# lost, or seen by others. Note: as it should be, and worth knowing.
Severity: TypeAlias = Literal["damage", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Problem:
    """
    One finding.

    Attributes:
        severity: How bad it is.
        file: The file or folder.
        line: Counted from 1; 0 if it is about the file as a whole.
        offset: Where the line starts, in bytes of the uncompressed file.
        what: What is wrong.
        hint: What to do.
    """

    severity: Severity
    file: str
    line: int
    offset: int
    what: str
    hint: str

    def __str__(self) -> str:
        place = f"line {self.line} (byte {self.offset}): " if self.line else ""
        label = "" if self.severity == "damage" else f"{self.severity}: "
        return f"{label}{self.file}: {place}{self.what}; {self.hint}"


def at_line(
    line: Line | LongLine | BadLine,
    what: str,
    hint: str,
    *,
    severity: Severity = "damage",
) -> Problem:
    """Make a finding about a line."""
    return Problem(severity, line.file, line.number, line.offset, what, hint)
