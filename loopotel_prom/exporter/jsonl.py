"""`JsonlExporter`: LTF documents into one JSON-lines file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from loopotel_prom import ltf
from loopotel_prom.archive.sealed import SealedFile


class _Traced(Protocol):
    def build_trace(self) -> ltf.Document: ...


class JsonlExporter:
    """
    Appends documents to a file of any name, one a line.

    Several exporters, in several processes, may share the file: a line is
    written whole under a lock. Parent folders are made.

    Which file that is, is settled here: a link is followed now, and a relative
    path starts from the folder that the process is in now.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        # Its lock is beside it, and so is the same for all names of the file.
        self._file = SealedFile(self.path.resolve())

    def export(self, trace: Mapping[str, Any]) -> None:
        """
        Append one document.

        Raises:
            ArchiveError: The write failed; the file is as it was before.
        """
        self._file.append(ltf.encode(trace))

    def export_tracer(self, tracer: _Traced) -> None:
        """
        Append the document of a tracer's run.

        Raises:
            ArchiveError: The write failed; the file is as it was before.
        """
        self.export(tracer.build_trace())
