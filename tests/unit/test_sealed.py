"""The sealed file: whole lines, whatever happens."""

import errno
import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from loopotel_prom.archive import sealed
from loopotel_prom.archive.lines import zstd
from loopotel_prom.archive.sealed import SealedFile
from loopotel_prom.errors import ArchiveError
from loopotel_prom.exporter import JsonlExporter

LIMIT = 64 * 1024**2


def _lines(path: Path) -> list[bytes]:
    data = path.read_bytes()
    return (zstd.decompress(data) if path.suffix == ".zst" else data).splitlines()


def _rotated(folder: Path) -> list[Path]:
    return [*folder.glob("traces-*.jsonl"), *folder.glob("traces-*.jsonl.zst")]


def _all_lines(folder: Path) -> list[bytes]:
    paths = (folder / "traces.jsonl", *_rotated(folder))
    return [line for path in paths if path.exists() for line in _lines(path)]


@pytest.fixture
def path(tmp_path) -> Path:
    """Name the sealed file of an archive."""
    return tmp_path / "traces.jsonl"


@pytest.fixture
def sync_fails(monkeypatch):
    """Let the next sync of a file fail, as on a disk that is dying."""
    fdatasync = os.fdatasync

    def fail_once(file: int) -> None:
        monkeypatch.setattr(os, "fdatasync", fdatasync)
        raise OSError(errno.EIO, "Input/output error")

    return lambda: monkeypatch.setattr(os, "fdatasync", fail_once)


@pytest.fixture
def start(path):
    """Start processes that append; what is still running at the end is killed."""
    running = []

    def begin(code: str, *arguments: object, **variables: str) -> subprocess.Popen:
        command = [sys.executable, "-c", PRELUDE + code, path, *map(str, arguments)]
        process = subprocess.Popen(
            command, env={**os.environ, **variables}, stdout=subprocess.PIPE
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


PRELUDE = """
import os, sys, time
from pathlib import Path
from loopotel_prom.archive import sealed
from loopotel_prom.archive.lines import zstd
from loopotel_prom.archive.sealed import SealedFile
path = Path(sys.argv[1])
file = SealedFile(path)
"""


# Appending.


def test_a_torn_tail_spoils_no_other_line(path):
    """What a dead writer left is closed off before the next line."""
    path.write_bytes(b'{"good":1}\n{"torn":')
    SealedFile(path).append(b'{"next":2}')
    assert _lines(path) == [b'{"good":1}', b'{"torn":', b'{"next":2}']


def test_a_tail_torn_between_two_appends_is_closed_off(path):
    """That the file is open already does not hide what others did to it."""
    file = SealedFile(path)
    file.append(b"one")
    with path.open("ab") as other:
        other.write(b"torn")
    file.append(b"two")
    assert _lines(path) == [b"one", b"torn", b"two"]


def test_a_failed_write_is_taken_back(path, monkeypatch):
    """The file is as it was, and the error says where and what to do."""
    file = SealedFile(path)
    file.append(b"one")
    write = os.write

    def full_disk(file: int, data: bytes) -> int:
        if len(data) > 2:
            return write(file, data[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full_disk)
    with pytest.raises(ArchiveError, match="No space left on device; check") as caught:
        file.append(b"two and more")
    assert path.read_bytes() == b"one\n"
    assert caught.value.errno == errno.ENOSPC


def test_a_short_write_is_gone_on_with(path, monkeypatch):
    """A signal may cut a write short, and nothing is missing for it."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:7]))
    SealedFile(path).append(b"a line longer than that")
    assert path.read_bytes() == b"a line longer than that\n"


def test_a_limit_on_file_size_is_an_error_and_no_torn_line(path, start):
    """The system writes what fits, and refuses the rest afterwards."""
    process = start("""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
file.append(b"x" * 6_000)
try:
    file.append(b"y" * 6_000)
except OSError as error:
    sys.exit(error.errno)
""")
    assert process.wait(30) == errno.EFBIG
    assert path.read_bytes() == b"x" * 6_000 + b"\n"


def test_a_folder_of_ours_is_private(tmp_path):
    """Traces are nobody else's business."""
    SealedFile(tmp_path / "new" / "traces.jsonl").append(b"{}")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "new" / "traces.jsonl").stat().st_mode) == 0o600


def test_a_folder_that_was_moved_is_made_anew(tmp_path):
    """Neither the file nor the lock of the old place is used any more."""
    file = SealedFile(tmp_path / "a" / "traces.jsonl")
    file.append(b"one")
    (tmp_path / "a").rename(tmp_path / "b")
    file.append(b"two")
    assert _lines(tmp_path / "a" / "traces.jsonl") == [b"two"]
    assert (tmp_path / "a" / "traces.jsonl.lock").exists()
    assert _lines(tmp_path / "b" / "traces.jsonl") == [b"one"]


def test_descriptors_that_others_closed_are_not_used(path, tmp_path):
    """A program that closes all files, and opens its own, finds nothing in them."""
    file = SealedFile(path)
    file.append(b"one")
    kept, lock = file._file.kept.fd, file._file._lock.fd
    os.closerange(kept, kept + 1)
    os.closerange(lock, lock + 1)
    strangers = [os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in "ab"]
    try:
        assert set(strangers) == {kept, lock}
        file.append(b"two")
    finally:
        for stranger in strangers:
            os.close(stranger)
    assert _lines(path) == [b"one", b"two"]
    assert not (tmp_path / "a").stat().st_size + (tmp_path / "b").stat().st_size


def test_close_gives_the_descriptors_back(path):
    """And an append after it works as one before."""
    file = SealedFile(path)
    file.append(b"one")
    kept = file._file.kept.fd
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kept)
    file.append(b"two")
    assert _lines(path) == [b"one", b"two"]


def test_a_file_that_is_forgotten_is_closed(path):
    """Nobody has to call close."""
    file = SealedFile(path)
    file.append(b"one")
    kept = file._file.kept.fd
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kept)


# What stands in the place of a file.


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.symlink_to(path.parent / "victim")


def _link_to_a_file(path: Path) -> None:
    (path.parent / "other").touch()
    path.symlink_to(path.parent / "other")


def _folder(path: Path) -> None:
    path.mkdir()


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize("name", ("traces.jsonl", "traces.jsonl.lock"))
@pytest.mark.parametrize("make", (_pipe, _link, _link_to_a_file, _folder, _socket))
def test_what_is_no_regular_file_is_refused(path, make, name, tmp_path, monkeypatch):
    """Nobody is left hanging, and nothing is written elsewhere."""
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    make(Path(name))
    with pytest.raises(ArchiveError, match="cannot append: not a regular file"):
        SealedFile(path).append(b"{}")
    assert not (tmp_path / "victim").exists()


def test_prepare_refuses_a_link(path):
    """What could not be written to is found when the archive is set up."""
    _link_to_a_file(path)
    with pytest.raises(OSError, match="not a regular file"):
        SealedFile(path).prepare()


# The lock.


def test_a_killed_holder_holds_up_nobody(path, start):
    """The system lets go of its lock, and of the line that it left."""
    holder = start("""
file._file.acquire(5)
os.write(file._file.kept.fd, b"torn")
print("held", flush=True)
time.sleep(60)
""")
    holder.stdout.readline()
    holder.kill()
    holder.wait(30)
    SealedFile(path).append(b"next", lock_seconds=0)
    assert _lines(path) == [b"torn", b"next"]


def test_a_stopped_holder_is_given_up_on(path, start):
    """After the time that the caller has, and the error says for what."""
    holder = start("""
file._file.acquire(5)
print("held", flush=True)
time.sleep(60)
""")
    holder.stdout.readline()
    holder.send_signal(signal.SIGSTOP)
    with pytest.raises(ArchiveError, match=r"held the lock for 0\.2 s") as caught:
        SealedFile(path).append(b"late", lock_seconds=0.2)
    assert caught.value.errno == errno.ETIMEDOUT
    holder.send_signal(signal.SIGKILL)
    SealedFile(path).append(b"next")
    assert _lines(path) == [b"next"]


def test_a_thread_that_waits_gives_up_in_time(path):
    """The same holds within one process, for every object of that path."""
    file = SealedFile(path)
    file._file.acquire(5)
    errors = []

    def append() -> None:
        try:
            SealedFile(path).append(b"late", lock_seconds=0.1)
        except ArchiveError as error:
            errors.append(error.errno)

    thread = threading.Thread(target=append)
    thread.start()
    thread.join()
    file._file.release()
    assert errors == [errno.ETIMEDOUT]


def test_a_signal_handler_within_an_append_is_refused(path, monkeypatch):
    """It would wait for its own thread; the append that it is in goes well."""
    file = SealedFile(path)
    errors = []

    def handler(*_: object) -> None:
        with pytest.raises(ArchiveError, match="appending already") as caught:
            file.append(b"within", lock_seconds=60)
        errors.append(caught.value.errno)

    write = os.write

    def interrupted(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", write)
        signal.raise_signal(signal.SIGUSR1)
        return write(fd, data)

    before = signal.signal(signal.SIGUSR1, handler)
    monkeypatch.setattr(os, "write", interrupted)
    try:
        file.append(b"one")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (_lines(path), errors) == ([b"one"], [errno.EDEADLK])


def test_a_forked_child_does_not_hold_the_lock(path, start):
    """Not though it was forked during an append, and lives on when that is over."""
    parent = start("""
import signal
file.append(b"one")
file._file.acquire(5)
child = os.fork()
if not child:
    file.append(b"child", lock_seconds=60)
    signal.pause()
file._file.release()
print(child, flush=True)
os._exit(0)
""")
    child = int(parent.stdout.readline())
    try:
        assert parent.wait(30) == 0
        SealedFile(path).append(b"two")
        deadline = time.monotonic() + 30
        while len(_lines(path)) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sorted(_lines(path)) == [b"child", b"one", b"two"]
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_child_forked_during_a_sync_does_not_wait_for_it(path, start):
    """The thread that syncs stays in the parent."""
    parent = start("""
import threading
file.append(b"one")
syncing = threading.Event()
os.fdatasync = lambda fd: (syncing.set(), time.sleep(60))
threading.Thread(target=file.sync, daemon=True).start()
syncing.wait()
child = os.fork()
if not child:
    file.append(b"child")
    os._exit(0)
os._exit(os.waitpid(child, 0)[1])
""")
    assert parent.wait(30) == 0
    assert _lines(path) == [b"one", b"child"]


def test_a_lock_that_was_removed_is_made_again(path, monkeypatch):
    """Who has the old one open notices, and locks the one that others find."""
    monkeypatch.setattr("loopotel_prom.archive.locked._LOOK_SECONDS", 0)
    file = SealedFile(path)
    file.append(b"one")
    path.with_name("traces.jsonl.lock").unlink()
    file.append(b"two")
    assert path.with_name("traces.jsonl.lock").exists()


APPEND_MANY = """
for number in range(50):
    line = b"%s:%d:" % (sys.argv[2].encode(), number) + b"x" * 20_000
    file.append(line, lock_seconds=200)
"""


def test_concurrent_processes_interleave_no_line(path, start):
    """Four processes write two hundred long lines; each comes out whole."""
    writers = [start(APPEND_MANY, n) for n in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    lines = _lines(path)
    assert len(set(lines)) == len(lines) == 200
    assert {len(line.split(b":")[2]) for line in lines} == {20_000}


def test_concurrent_threads_lose_no_line(path):
    """They share a descriptor and a lock, whichever object they hold."""

    def append(thread: int) -> None:
        file = SealedFile(path, rotate_bytes=5_000)
        for number in range(200):
            file.append(b"%d:%d" % (thread, number), lock_seconds=200)

    threads = [threading.Thread(target=append, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = _all_lines(path.parent)
    assert len(lines) == len(set(lines)) == 1600


# Rotating.


def test_a_file_that_is_full_is_rotated(path):
    """The append after it begins a new one."""
    file = SealedFile(path, rotate_bytes=9)
    for line in (b"first", b"second", b"third"):
        file.append(line)
    (full,) = _rotated(path.parent)
    assert _lines(full) == [b"first", b"second"]
    assert _lines(path) == [b"third"]


def test_an_old_file_is_rotated_after_a_restart(path):
    """Its age is that of its first line, and outlives the process."""
    SealedFile(path, rotate_seconds=3600).append(b"first")
    assert not _rotated(path.parent)
    two_hours_ago = time.time() - 7200
    os.utime(path.with_name("traces.jsonl.lock"), (two_hours_ago, two_hours_ago))
    SealedFile(path, rotate_seconds=3600).append(b"second")
    (old,) = _rotated(path.parent)
    assert _lines(old) == [b"first", b"second"]
    SealedFile(path, rotate_seconds=3600).append(b"third")
    assert _lines(path) == [b"third"]


def test_rotate_tells_whether_there_was_anything(path):
    """An absent file, or an empty one, gets no other name."""
    file = SealedFile(path)
    assert not file.rotate()
    path.touch()
    assert not file.rotate()
    file.append(b"one")
    assert file.rotate()
    assert [_lines(found) for found in _rotated(path.parent)] == [[b"one"]]


def test_a_file_without_a_limit_is_never_rotated(path):
    """A user's file keeps its name."""
    file = SealedFile(path)
    for _ in range(3):
        file.append(b"x" * 1_000_000)
    assert not _rotated(path.parent)


def test_a_file_that_cannot_be_renamed_grows(path, monkeypatch):
    """The line is there, so the append is no failure; the next tries again."""
    file = SealedFile(path, rotate_bytes=1)

    def refuse(*_: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        file.append(b"one")
        file.sync()
    file.append(b"two")
    assert [_lines(found) for found in _rotated(path.parent)] == [[b"one", b"two"]]


ROTATE_MANY = """
file = SealedFile(path, rotate_bytes=2_000)
for number in range(100):
    line = b"%s:%d:" % (sys.argv[2].encode(), number) + b"x" * 100
    file.append(line, lock_seconds=200)
"""


def test_concurrent_rotations_lose_and_repeat_nothing(path, start):
    """Eight processes, a limit that is reached every twenty lines."""
    writers = [start(ROTATE_MANY, n) for n in range(8)]
    assert [writer.wait() for writer in writers] == [0] * 8
    lines = _all_lines(path.parent)
    assert len(lines) == len(set(lines)) == 800
    assert len(_rotated(path.parent)) > 20


# Syncing.


def test_a_sync_that_failed_is_told_once(path, sync_fails):
    """The file is put away, and the lines are on disk when they are written again."""
    file = SealedFile(path, rotate_bytes=LIMIT)
    file.append(b"one")
    sync_fails()
    with pytest.raises(ArchiveError, match="cannot sync: Input/output") as caught:
        file.sync()
    assert caught.value.errno == errno.EIO
    file.append(b"one")
    file.sync()
    assert [_lines(found) for found in _rotated(path.parent)] == [[b"one"]]
    assert _lines(path) == [b"one"]


def test_an_append_that_cannot_be_synced_is_an_error(path, sync_fails):
    """The caller appends again, to another file."""
    file = SealedFile(path, rotate_bytes=LIMIT)
    sync_fails()
    with pytest.raises(ArchiveError, match="Input/output error"):
        file.append(b"one", sync=True)
    file.append(b"one", sync=True)
    assert [_lines(found) for found in _rotated(path.parent)] == [[b"one"]]
    assert _lines(path) == [b"one"]


def test_a_rotation_that_cannot_be_synced_is_told_by_the_next_sync(path, sync_fails):
    """The line was written: its append is no failure, but its safety is unknown."""
    file = SealedFile(path, rotate_bytes=1)
    sync_fails()
    file.append(b"one")
    assert _rotated(path.parent)
    with pytest.raises(ArchiveError, match="Input/output error"):
        file.sync()
    file.sync()


def test_each_that_shares_a_file_is_told_of_a_sync_that_failed(path, sync_fails):
    """It may be the line of another that is not on disk."""
    mine, other = (SealedFile(path, rotate_bytes=LIMIT) for _ in range(2))
    other.append(b"theirs")
    sync_fails()
    for file in (mine, other):
        with pytest.raises(ArchiveError, match="Input/output error"):
            file.sync()
        file.sync()


def test_a_file_that_others_rotated_is_synced_when_it_is_left(path, sync_fails):
    """The last that can tell of a failure is who had it open."""
    file = SealedFile(path, rotate_bytes=LIMIT)
    file.append(b"one")
    path.rename(path.with_name("traces-other.jsonl"))
    sync_fails()
    file.append(b"two")
    with pytest.raises(ArchiveError, match="Input/output error"):
        file.sync()


def test_sync_needs_no_lock_and_no_line_of_ours(path, start, monkeypatch):
    """What others left in the present file is brought to the disk too."""
    holder = start("""
file.append(b"one")
file._file.acquire(5)
print("held", flush=True)
time.sleep(60)
""")
    holder.stdout.readline()
    synced = []
    fdatasync = os.fdatasync
    monkeypatch.setattr(
        os, "fdatasync", lambda fd: synced.append(os.fstat(fd).st_ino) or fdatasync(fd)
    )
    SealedFile(path).sync()
    assert synced == [path.stat().st_ino]


def test_sync_of_nothing_is_no_failure(tmp_path):
    """Nor does it make anything."""
    SealedFile(tmp_path / "absent" / "traces.jsonl").sync()
    assert not (tmp_path / "absent").exists()


# In pieces.


def test_pieces_become_one_line(path):
    """As if they had been one."""
    SealedFile(path).append_pieces(iter((b'{"a":', b"1", b"}")))
    assert _lines(path) == [b'{"a":1}']


@pytest.mark.parametrize("limit", (None, LIMIT))
def test_pieces_that_fail_leave_nothing(path, monkeypatch, limit):
    """However long they are when it happens, and whoever they are for."""
    monkeypatch.setattr(sealed, "LONG_BYTES", 10)
    file = SealedFile(path, rotate_bytes=limit)
    file.append(b"one")

    def failing(good: int):
        yield from (b"xxxx",) * good
        raise ZeroDivisionError

    for good in (1, 5):
        with pytest.raises(ZeroDivisionError):
            file.append_pieces(failing(good))
    assert {found.name for found in path.parent.iterdir()} == {
        "traces.jsonl",
        "traces.jsonl.lock",
    }
    assert path.read_bytes() == b"one\n"


@pytest.mark.parametrize("in_pieces", (True, False))
def test_a_long_document_gets_a_file_of_its_own(path, monkeypatch, in_pieces):
    """Compressed; it holds up nobody: not even the lock is taken."""
    monkeypatch.setattr(sealed, "LONG_BYTES", 10)
    file = SealedFile(path, rotate_bytes=LIMIT)
    with path.with_name("traces.jsonl.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if in_pieces:
            file.append_pieces((b"0123456789", b"x"))
        else:
            file.append(b"0123456789x")
    (own,) = _rotated(path.parent)
    assert (own.suffix, _lines(own)) == (".zst", [b"0123456789x"])
    assert own.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


def _other(file: int) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, zstd.compress(b"another\n"), 0)


def _torn(file: int) -> None:
    os.ftruncate(file, os.fstat(file).st_size - 1)


@pytest.mark.parametrize(
    ("damage", "fault"),
    ((_other, "read back, differs"), (_torn, "read back, is damaged")),
)
def test_a_long_document_is_read_back_before_it_has_its_name(
    path, monkeypatch, damage, fault
):
    """A disk that gives back other bytes is told, and leaves nothing."""
    monkeypatch.setattr(sealed, "LONG_BYTES", 10)
    fsync = os.fsync

    def spoil(file: int) -> None:
        damage(file)
        fsync(file)

    monkeypatch.setattr(os, "fsync", spoil)
    with pytest.raises(ArchiveError, match=fault) as caught:
        SealedFile(path, rotate_bytes=LIMIT).append_pieces((b"0123456789", b"x"))
    assert caught.value.errno == errno.EIO
    assert not [*path.parent.iterdir()]


def test_a_long_document_of_a_users_file_is_appended(path, monkeypatch):
    """There is one file, and the document is in it, behind a torn line too."""
    monkeypatch.setattr(sealed, "LONG_BYTES", 10)
    path.write_bytes(b"torn")
    SealedFile(path).append_pieces((b"0123456789", b"x", b"y"))
    assert _lines(path) == [b"torn", b"0123456789xy"]


# Killed on the way.

KILLED = """
file = SealedFile(path, rotate_bytes=30)
sealed.LONG_BYTES = 60
for run in range(100):
    line = b'{"trace_id":%d,%s}' % (run, b"x" * (200 if run % 3 == 2 else 5))
    print(run, flush=True)
    file.append(line, sync=True)
"""
APPENDS = (
    "append.locked",
    "append.half",
    "append.written",
    "append.synced",
    "rotate.synced",
    "rotate.renamed",
    "long.half",
    "long.written",
    "long.verified",
    "long.renamed",
)


@pytest.mark.parametrize("place", APPENDS)
def test_a_process_killed_anywhere_loses_nothing(path, start, place):
    """What was appended is there once; the next append spoils and loses no line."""
    victim = start(KILLED, LOOPOTEL_FAILPOINT=place)
    assert victim.wait(30) == -signal.SIGKILL
    tried = [int(word) for word in victim.stdout.read().split()]
    SealedFile(path, rotate_bytes=30).append(b'{"trace_id":"next",yyyyy}')
    whole = [line for line in _all_lines(path.parent) if line.endswith(b"}")]
    counts = Counter(line.split(b":")[1].split(b",")[0] for line in whole)
    assert {counts[b"%d" % run] for run in tried[:-1]} <= {1}
    assert counts[b"%d" % tried[-1]] <= 1
    assert counts[b'"next"'] == 1
    assert all(line.count(b"trace_id") == 1 for line in whole)


# The exporter.


def test_the_exporter_appends_to_any_file(new_run, tmp_path):
    """Parent folders are made, and a tracer can be handed in itself."""
    exporter = JsonlExporter(tmp_path / "a" / "b.jsonl")
    with new_run() as run:
        pass
    exporter.export(run.build_trace())
    exporter.export_tracer(run)
    first, second = _lines(tmp_path / "a" / "b.jsonl")
    assert first == second


def test_the_exporter_follows_a_link(tmp_path):
    """A user's file may be one; the lock is beside the file that it leads to."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "elsewhere" / "real.jsonl")
    JsonlExporter(tmp_path / "link.jsonl").export({"a": 1})
    assert _lines(tmp_path / "elsewhere" / "real.jsonl") == [b'{"a":1}']
    assert (tmp_path / "elsewhere" / "real.jsonl.lock").exists()
