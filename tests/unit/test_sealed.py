"""The sealed file: whole lines, whatever happens."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from loopotel_prom.archive.sealed import SealedFile
from loopotel_prom.errors import ArchiveError
from loopotel_prom.exporter import JsonlExporter


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def test_a_torn_tail_spoils_no_other_line(tmp_path):
    """What a dead writer left is closed off before the next line."""
    path = tmp_path / "traces.jsonl"
    path.write_bytes(b'{"good":1}\n{"torn":')
    SealedFile(path).append(b'{"next":2}')
    assert _lines(path) == [b'{"good":1}', b'{"torn":', b'{"next":2}']


def test_a_failed_write_is_taken_back(tmp_path, monkeypatch):
    """The file is as it was, and the error says where and what to do."""
    path = tmp_path / "traces.jsonl"
    SealedFile(path).append(b"one")
    write = os.write

    def full_disk(file: int, data: bytes) -> int:
        if len(data) > 2:
            return write(file, data[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full_disk)
    with pytest.raises(ArchiveError, match="No space left on device; check"):
        SealedFile(path).append(b"two and more")
    assert path.read_bytes() == b"one\n"


def test_a_folder_of_ours_is_private(tmp_path):
    """Traces are nobody else's business."""
    SealedFile(tmp_path / "new" / "traces.jsonl").append(b"{}")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "new" / "traces.jsonl").stat().st_mode) == 0o600


def test_a_lock_that_is_a_link_is_refused(tmp_path):
    """Nobody can point the lock at another file."""
    (tmp_path / "traces.jsonl.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(ArchiveError, match="cannot append"):
        SealedFile(tmp_path / "traces.jsonl").append(b"{}")
    assert not (tmp_path / "victim").exists()


def test_a_pipe_in_the_place_of_the_file_is_refused(tmp_path):
    """The writer is not left hanging."""
    os.mkfifo(tmp_path / "traces.jsonl")
    with pytest.raises(ArchiveError, match="not a regular file"):
        SealedFile(tmp_path / "traces.jsonl").append(b"{}")


APPEND_MANY = """
import sys
from pathlib import Path
from loopotel_prom.archive.sealed import SealedFile
file = SealedFile(Path(sys.argv[1]))
for number in range(50):
    file.append(b"%s:%d:" % (sys.argv[2].encode(), number) + b"x" * 20_000)
"""


def test_concurrent_processes_interleave_no_line(tmp_path):
    """Four processes write two hundred long lines; each comes out whole."""
    path = tmp_path / "traces.jsonl"
    command = [sys.executable, "-c", APPEND_MANY, str(path)]
    writers = [subprocess.Popen([*command, str(n)]) for n in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    lines = _lines(path)
    assert len(set(lines)) == len(lines) == 200
    assert {len(line.split(b":")[2]) for line in lines} == {20_000}


def test_the_exporter_appends_to_any_file(new_run, tmp_path):
    """Parent folders are made, and a tracer can be handed in itself."""
    exporter = JsonlExporter(tmp_path / "a" / "b.jsonl")
    with new_run() as run:
        pass
    exporter.export(run.build_trace())
    exporter.export_tracer(run)
    first, second = _lines(tmp_path / "a" / "b.jsonl")
    assert first == second
