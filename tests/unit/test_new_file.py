"""Files that are there when they are complete, or not at all."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from loopotel_prom.archive.new_file import NamedFile, new_file

_WRITE = """
import os, sys
from pathlib import Path
from loopotel_prom.archive.new_file import new_file

with new_file(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), 9)
"""


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_its_name_when_it_is_complete(tmp_path: Path) -> None:
    """Until then what had the name is what is read."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with new_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert _names(tmp_path) == ["file"]


def test_a_block_that_fails_leaves_what_was(tmp_path: Path) -> None:
    """Nothing else is left, whatever ended it."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(SystemExit), new_file(path) as file:
        file.write(b"new")
        sys.exit()
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["file"]


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """It is known by its name, and by the lock that it no longer has."""
    path = tmp_path / "file"
    subprocess.run([sys.executable, "-c", _WRITE, path], check=False)
    assert _names(tmp_path) == [".file.unfinished"]
    with new_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert _names(tmp_path) == ["file"]


def test_two_do_not_write_a_file_at_the_same_time(tmp_path: Path) -> None:
    """The second is refused, and the first does not notice."""
    path = tmp_path / "file"
    with new_file(path) as file:
        file.write(b"first")
        with pytest.raises(BlockingIOError, match="another process is writing"):
            new_file(path).__enter__()
    assert path.read_bytes() == b"first"


def test_a_link_beside_it_is_not_followed(tmp_path: Path) -> None:
    """Nobody can have another file overwritten."""
    (tmp_path / "other").write_bytes(b"precious")
    (tmp_path / ".file.unfinished").symlink_to("other")
    with pytest.raises(OSError, match=r"\.file\.unfinished"):
        new_file(tmp_path / "file").__enter__()
    assert (tmp_path / "other").read_bytes() == b"precious"


def test_a_pipe_beside_it_is_not_waited_for(tmp_path: Path) -> None:
    """It is in the way, and removed."""
    os.mkfifo(tmp_path / ".file.unfinished")
    with new_file(tmp_path / "file") as file:
        file.write(b"new")
    assert _names(tmp_path) == ["file"]


@pytest.mark.parametrize("mode", (0o600, 0o400))
def test_a_file_has_the_mode_that_is_asked_for(tmp_path: Path, mode: int) -> None:
    """As far as the umask lets it."""
    with new_file(tmp_path / "file", mode=mode):
        pass
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_an_error_of_writing_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's own says only what went wrong."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as raised, new_file(tmp_path / "f"):
        pass
    assert raised.value.filename == str(tmp_path / "f")
    assert _names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_an_error_of_a_device_names_it() -> None:
    """As of a file."""
    with NamedFile("/dev/full", "wb") as file, pytest.raises(OSError) as raised:  # noqa: PT011 - its name is looked at
        file.write(b"x")
    assert raised.value.filename == "/dev/full"
