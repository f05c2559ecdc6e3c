"""Compressing what is complete: never a moment without a whole copy."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loopotel_prom.archive.compress import compress
from loopotel_prom.archive.lines import Line, read_lines
from loopotel_prom.errors import ArchiveError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LINES = [b'{"trace_id":"ltf-%d","padding":"%d"}' % (n, n * 7) for n in range(50_000)]


@pytest.fixture
def plain(tmp_path) -> Path:
    """Make a file that is complete, of several chunks."""
    path = tmp_path / "traces-20260101T000000Z-0123456789abcdef.jsonl"
    path.write_bytes(b"\n".join(LINES) + b"\n")
    return path


def _names(path: Path) -> set[str]:
    """Name what is beside it, its own name left out."""
    return {found.name.removeprefix(path.name) for found in path.parent.iterdir()}


def _read(path: Path) -> list[bytes]:
    found = list(read_lines(path))
    assert all(isinstance(line, Line) for line in found)
    return [line.data for line in found]


def test_a_file_is_replaced_by_a_smaller_equal(plain):
    """The same lines, in a tenth of the space or less, private as before."""
    size = plain.stat().st_size
    copy = compress(plain)
    assert copy == plain.with_name(plain.name + ".zst")
    assert _names(plain) == {".zst"}
    assert _read(copy) == LINES
    assert copy.stat().st_size * 5 < size
    assert copy.stat().st_mode & 0o777 == 0o600


def test_the_frame_tells_its_size_and_carries_a_checksum(plain):
    """So that any reader finds damage, and can plan ahead."""
    size = plain.stat().st_size
    data = bytearray(compress(plain).read_bytes())
    assert zstd.get_frame_info(bytes(data)).decompressed_size == size
    assert data[4] & 0b100  # the checksum flag of the frame's header
    data[-1] ^= 1
    with pytest.raises(zstd.ZstdError, match="checksum"):
        zstd.decompress(bytes(data))


def test_an_empty_file_is_compressed_too(plain):
    """There is nothing in it to lose."""
    plain.write_bytes(b"")
    assert zstd.decompress(compress(plain).read_bytes()) == b""


def test_a_file_that_is_gone_is_nobodys_failure(tmp_path):
    """Another process was quicker."""
    assert compress(tmp_path / "traces-gone.jsonl") is None


def test_a_file_that_another_has_claimed_is_left_to_it(plain):
    """One process does it."""
    with plain.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert compress(plain) is None
    assert _names(plain) == {""}


def test_a_copy_that_differs_is_refused(plain, monkeypatch):
    """A disk that gives back other bytes costs the copy, and not the file."""
    before = plain.read_bytes()
    other = zstd.compress(b"x" * len(before))
    fsync = os.fsync

    def lie(file: int) -> None:
        os.ftruncate(file, 0)
        os.pwrite(file, other, 0)
        fsync(file)

    monkeypatch.setattr(os, "fsync", lie)
    with pytest.raises(ArchiveError, match="read back, differs; the file itself"):
        compress(plain)
    assert _names(plain) == {""}
    assert plain.read_bytes() == before


@pytest.mark.parametrize("damage", ("cut", "flipped"))
def test_a_damaged_copy_is_refused(plain, monkeypatch, damage):
    """What cannot be read back at all is no copy either."""
    before = plain.read_bytes()
    fsync = os.fsync

    def spoil(file: int) -> None:
        size = os.fstat(file).st_size
        if damage == "cut":
            os.ftruncate(file, size - 10)
        else:
            os.pwrite(file, b"\xff\x00\xff", size // 2)
        fsync(file)

    monkeypatch.setattr(os, "fsync", spoil)
    with pytest.raises(ArchiveError, match="cannot compress"):
        compress(plain)
    assert _names(plain) == {""}
    assert plain.read_bytes() == before


def test_a_disk_that_is_full_costs_the_copy_alone(plain, monkeypatch):
    """The error carries the system's number."""

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArchiveError, match="No space left") as caught:
        compress(plain)
    assert caught.value.errno == errno.ENOSPC
    assert _names(plain) == {""}


def test_a_link_is_not_followed(plain):
    """Nothing outside the archive is replaced."""
    link = plain.with_name("traces-link.jsonl")
    link.symlink_to(plain)
    with pytest.raises(ArchiveError, match="cannot compress"):
        compress(link)
    assert plain.exists()


def test_a_folder_is_no_file(tmp_path):
    """It is refused, not read."""
    (tmp_path / "traces-x.jsonl").mkdir()
    with pytest.raises(ArchiveError, match="not a regular file"):
        compress(tmp_path / "traces-x.jsonl")


KILLED = """
import sys
from pathlib import Path
from loopotel_prom.archive.compress import compress
compress(Path(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("place", "left"),
    (
        ("compress.half", {"", ".zst.tmp"}),
        ("compress.written", {"", ".zst.tmp"}),
        ("compress.verified", {"", ".zst.tmp"}),
        ("compress.renamed", {"", ".zst"}),
    ),
)
def test_a_process_killed_anywhere_loses_nothing(plain, place, left):
    """A whole copy is always there, and doing it again ends as it should."""
    command = [sys.executable, "-c", KILLED, plain]
    environment = {**os.environ, "LOOPOTEL_FAILPOINT": place}
    killed = subprocess.run(command, env=environment, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert _names(plain) == left
    assert _read(plain) == LINES
    assert _read(compress(plain)) == LINES
    assert _names(plain) == {".zst"}


def test_concurrent_processes_compress_a_file_once(plain):
    """Whoever comes too late does nothing, and nothing breaks."""
    command = [sys.executable, "-c", KILLED, plain]
    running = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0] * 4
    assert _names(plain) == {".zst"}
    assert _read(plain.with_name(plain.name + ".zst")) == LINES


MEMORY = """
import re, resource, sys
from pathlib import Path
from loopotel_prom.archive.compress import compress

def peak_kb():
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    # There getrusage may tell the peak of who has forked this.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s*(\\d+)", status)[1])

path = Path(sys.argv[1])
before = peak_kb()
compress(path)
print(peak_kb() - before)
"""


def test_memory_does_not_grow_with_the_file(plain):
    """Sixty megabytes pass through sixteen at most."""
    with plain.open("ab") as file:
        for _ in range(20):
            file.write(b"\n".join(LINES) + b"\n")
    assert plain.stat().st_size > 40_000_000
    command = [sys.executable, "-c", MEMORY, plain]
    told = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert int(told.stdout) < 16 * 1024
