"""The command `loopotel-prom archive compact`."""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from loopotel_prom.archive.compress import compress
from loopotel_prom.archive.dedupe import Deduped, dedupe
from loopotel_prom.archive.files import folder_bytes
from loopotel_prom.archive.layout import SEALED, leftovers, rotated_files
from loopotel_prom.archive.sealed import SealedFile
from loopotel_prom.cli.archive_source import DEFAULT_FOLDER, Folder
from loopotel_prom.cli.terminal import echo, progress
from loopotel_prom.errors import ArchiveError

_LEFTOVER_SECONDS = 3600.0


def compact(
    folder: Folder = DEFAULT_FOLDER,
    *,
    all_files: Annotated[
        bool,
        typer.Option(
            "--all", help="Also the file that is being written to: rotate it."
        ),
    ] = False,
    with_dedupe: Annotated[
        bool,
        typer.Option(
            "--dedupe",
            help="Also drop second copies, and put unreadable lines into quarantine/.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with what was done.")
    ] = False,
) -> None:
    """
    Compress the files of an archive that are complete, and tidy up.

    Nothing is removed before its successor is on disk and was read back; it may
    be interrupted anywhere, and repeated. Loops may go on writing meanwhile.
    """
    if not folder.is_dir():
        raise ArchiveError(
            "there is no such folder", path=str(folder), hint="check the path"
        )
    before = folder_bytes(folder)
    if all_files:
        SealedFile(folder / SEALED).rotate()
    deduped = _dedupe(folder) if with_dedupe else Deduped()
    compressed, faults = _compress_all(folder)
    done = _Compaction(
        bytes_before=before,
        compressed=compressed,
        leftovers=_remove_leftovers(folder),
        bytes_after=folder_bytes(folder),
        faults=faults,
        deduped=deduped,
    )
    _tell(done, as_json=as_json)
    if faults:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compaction:
    """What was done."""

    bytes_before: int
    bytes_after: int
    compressed: int
    leftovers: int
    faults: list[str]
    deduped: Deduped


def _dedupe(folder: Path) -> Deduped:
    size = folder_bytes(folder)
    with progress("reading", size, total=size) as show:
        done = 0

        def advance(read: int) -> None:
            nonlocal done
            done += read
            show(done)

        return dedupe(folder, advance=advance)


def _compress_all(folder: Path) -> tuple[int, list[str]]:
    """Compress file after file; one that cannot be stops no other."""
    paths = [path for path in rotated_files(folder) if path.suffix == ".jsonl"]
    sizes = [path.lstat().st_size for path in paths]
    count, done, faults = 0, 0, list[str]()
    with progress("compressing", sum(sizes), total=sum(sizes)) as show:
        for path, size in zip(paths, sizes, strict=True):
            try:
                count += compress(path) is not None
            except ArchiveError as error:
                faults.append(str(error))
            done += size
            show(done)
    return count, faults


def _remove_leftovers(folder: Path) -> int:
    """Remove what crashes left, unless it is so fresh that it may be in use."""
    count = 0
    for path in leftovers(folder):
        with suppress(FileNotFoundError):
            if time.time() - path.lstat().st_mtime > _LEFTOVER_SECONDS:
                path.unlink()
                count += 1
    return count


def _tell(done: _Compaction, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(done)))
        return
    for fault in done.faults:
        echo(fault, err=True)
    for count, what in (
        (done.compressed, "files compressed"),
        (done.deduped.files, "files rewritten"),
        (done.deduped.copies, "second copies dropped"),
        (done.deduped.quarantined, "unreadable lines moved to quarantine/"),
        (done.deduped.left, "files left: damaged beyond lines, or in use"),
        (done.leftovers, "leftovers of crashes removed"),
    ):
        if count:
            echo(f"{count} {what}")
    echo(f"{done.bytes_before} bytes before, {done.bytes_after} bytes after")
