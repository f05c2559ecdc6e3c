"""
Checks an archive as a whole: folder, journals, sealed files.

What cannot be found: a change within a line of a plain sealed file that leaves
it valid LTF, such as another digit in a number. Those lines have no checksum;
those of journals, and compressed files, do.
"""

import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from loopotel_prom.archive.files import Advance
from loopotel_prom.runs.inventory import inspect
from loopotel_prom.runs.journal_check import JournalCheck
from loopotel_prom.runs.problem import Problem
from loopotel_prom.runs.sealed_check import SealedCheck


class Verification:
    """
    One check of an archive, or of a single sealed file.

    Attributes:
        counts: Findings by severity, as far as they have been yielded.

    Args:
        path: The archive's folder, or the file.
        advance: Is told of each piece of a sealed file that was read, in bytes.
    """

    def __init__(self, path: Path, *, advance: Advance | None = None) -> None:
        self._path = path
        self._journals = JournalCheck(path)
        self._sealed = SealedCheck(path, advance)
        self.counts: Counter[str] = Counter()

    def problems(self) -> Iterator[Problem]:
        """
        Check all of it, and yield what is found as it is found.

        Raises:
            ArchiveError: There is nothing at the path, or it may not be read.
        """
        for problem in self._all():
            self.counts[problem.severity] += 1
            yield problem

    def summary(self) -> dict[str, int]:
        """Count what was checked, and what was found."""
        return {
            "files": self._sealed.files + self._journals.files,
            "documents": self._sealed.documents,
            "runs": len(self._sealed.keys),
            "records": self._journals.records,
            "open_runs": self._journals.open_runs,
            "damage": self.counts["damage"],
            "warnings": self.counts["warning"],
            "notes": self.counts["note"],
        }

    def _all(self) -> Iterator[Problem]:
        if not self._path.is_dir():
            yield from self._sealed.run()
            return
        yield from inspect(self._path)
        # Before the sealed files: what is marked in them must be in these.
        yield from self._journals.run()
        yield from self._sealed.run()
        for key in sorted(self._journals.marks - self._sealed.keys.keys()):
            yield Problem(
                "warning",
                str(self._path),
                0,
                0,
                f"a journal says that ltf-{uuid.UUID(bytes=key)} is sealed,"
                " and it is in no file",
                "look for a file that was moved away or damaged",
            )
