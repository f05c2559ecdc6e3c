"""What was refused, kept until it is known that no copy of the run was good."""

import pickle
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from loopotel_prom.archive.lines import BadLine
from loopotel_prom.archive.reader import Seen

# Beyond it they are on disk: an archive may be nothing but rejects.
_HELD_BYTES = 1024**2


@dataclass(frozen=True, slots=True)
class Rejected(BadLine):
    """
    One document that a job could not take.

    Attributes:
        trace_id: Its run.
    """

    trace_id: str = ""


class Faults:
    """Bad lines and rejected documents, in order; a context manager."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_HELD_BYTES)  # noqa: SIM115 - ours

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, line: BadLine) -> None:
        """Keep one."""
        pickle.dump(line, self._file)

    def told(self, good: Seen) -> Iterator[BadLine]:
        """Yield them in order: of a run one, and of a good one none."""
        self._file.seek(0)
        told = Seen()
        while True:
            try:
                line: BadLine = pickle.load(self._file)  # noqa: S301 - written here
            except EOFError:
                return
            if isinstance(line, Rejected) and (
                line.trace_id in good or not told.add(line.trace_id)
            ):
                continue
            yield line
