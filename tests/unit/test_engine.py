"""The engine: the same results whoever works, and however the files are cut."""

import json
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopotel_prom.archive.compress import compress
from loopotel_prom.archive.layout import SEALED
from loopotel_prom.archive.lines import BadLine, zstd
from loopotel_prom.archive.reader import Entry, read_archive, read_items
from loopotel_prom.archive.remote import new_object
from loopotel_prom.engine import (
    Done,
    Engine,
    Rejected,
    open_engine,
    place_of,
    read_places,
    run,
)
from loopotel_prom.engine import reading as engine_reading
from loopotel_prom.engine import shard as engine_shard
from loopotel_prom.engine.plan import Plan
from loopotel_prom.engine.source import GoneError
from loopotel_prom.errors import (
    ArchiveError,
    ConfigError,
    DocumentError,
    MissingExtraError,
)

OLD = "traces-20260101T000000Z-{}.jsonl"


def document(number: int, **members: object) -> bytes:
    """Spell what is enough of a document, told from others by a number."""
    trace_id = f"ltf-{number:08x}-0000-4000-8000-000000000000"
    return json.dumps({"trace_id": trace_id, **members}).encode()


def spelled(entry: Entry) -> bytes:
    """Give a document back; refuse one that asks for it."""
    data = b"".join(entry.pieces()).rstrip(b"\r")
    if b"refuse" in data:
        raise DocumentError("it asks for it")
    return data


@dataclass(frozen=True)
class Deadly:
    """Ends the process that works, as often as files can be made in a folder."""

    folder: Path
    times: int
    parent: int

    def __call__(self, entry: Entry) -> bytes:
        """End it before the document of the number 5."""
        if entry.trace_id.startswith("ltf-00000005") and os.getpid() != self.parent:
            for number in range(self.times):
                try:
                    (self.folder / str(number)).touch(exist_ok=False)
                except FileExistsError:
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
        return spelled(entry)


@dataclass(frozen=True)
class DiesTelling:
    """Ends the first process that works, while it passes a large result on."""

    mark: Path
    after_seconds: float
    parent: int

    def __call__(self, entry: Entry) -> bytes:
        """Give a large result for the document of the number 5; then end it."""
        if not entry.trace_id.startswith("ltf-00000005"):
            return b""
        if os.getpid() != self.parent and not self.mark.exists():
            self.mark.touch()
            kill = (os.getpid(), signal.SIGKILL)
            threading.Timer(self.after_seconds, os.kill, kill).start()
        return bytes(100 * 2**20)


HOSTILE = [
    document(1),
    b"",
    b"{bad",
    document(2) + b"\r",
    b"   ",
    b"\r",
    document(1, copy=True),
    document(3, refuse=1),
    b"\x1f\x8b no gzip stream",
    b"\x28\xb5\x2f\xfd no zstd stream",
    document(3, good="at last"),
    document(4, refuse=1),
    document(4, refuse=2),
    document(5, text="x" * 700),
    b"\xff\xfe",
    b"[1]",
    b"",
    b"",
    document(6),
]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes find the jobs of this file, behind an installed product."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[2])])


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Make an archive of all that may be in one."""
    folder = tmp_path / "traces"
    folder.mkdir()
    lines = b"\n".join(HOSTILE)
    (folder / OLD.format(1)).write_bytes(lines + b"\n")
    (folder / (OLD.format(2) + ".zst")).write_bytes(
        zstd.compress(document(7) + b"\n{\n" + document(8) + b"\n")
    )
    noise = (document(n, text=os.urandom(999).hex()) for n in range(100, 900))
    damaged = zstd.compress(b"\n".join(noise))
    (folder / (OLD.format(3) + ".zst")).write_bytes(damaged[: len(damaged) // 2])
    (folder / OLD.format(4)).symlink_to(folder / OLD.format(1))
    (folder / OLD.format(5)).write_bytes(b"")
    torn = document(9) + b"\n" + document(6) + b"\n\n" + document(10)[:-9]
    (folder / SEALED).write_bytes(torn)
    return folder


def results(
    *places: Path | str, job: Callable[[Entry], bytes] = spelled, engine: Engine
) -> list[Done[bytes] | BadLine]:
    """Do a job to the end."""
    with engine:
        return list(run(job, *places, engine=engine))


def numbers(items: Iterable[object]) -> list[int]:
    """Tell the good ones by their numbers."""
    return [int(item.trace_id[4:12], 16) for item in items if isinstance(item, Done)]


def faults(items: Iterable[object]) -> list[tuple[int, str]]:
    """Tell the others by line and fault."""
    return [(item.number, item.fault) for item in items if isinstance(item, BadLine)]


# What comes out


def test_the_first_good_copy_counts(hostile: Path) -> None:
    """A rejected one before it hides nothing, and is not told."""
    items = results(hostile / OLD.format(1), engine=Engine())
    assert numbers(items) == [1, 2, 3, 5, 6]
    assert [i.value for i in items if isinstance(i, Done)][2] == document(
        3, good="at last"
    )
    told = [item for item in items if isinstance(item, Rejected)]
    assert [(one.number, one.fault) for one in told] == [(12, "it asks for it")]


def test_places_in_the_file_are_those_of_the_reader(hostile: Path) -> None:
    """Though workers count from the beginning of their part."""
    read = {(i.file, i.offset): i.number for i in read_items(hostile)}
    items = results(hostile, engine=Engine(shard_bytes=37))
    assert len(items) > 15
    for item in items:
        assert item.number == read[item.file, item.offset]


def test_refusals_come_last(hostile: Path) -> None:
    """In the order of the archive."""
    items = results(hostile, engine=Engine())
    kinds = [isinstance(item, BadLine) for item in items]
    assert kinds == sorted(kinds)
    names = [Path(item.file).name for item in items if isinstance(item, BadLine)]
    assert sorted(set(names)) == list(dict.fromkeys(names))


def test_a_damaged_stream_gives_what_is_before(hostile: Path) -> None:
    """And says where it ends."""
    items = results(hostile, engine=Engine())
    assert 100 in numbers(items)
    assert any("zstd" in fault for _, fault in faults(items))


def test_rejects_may_be_many(tmp_path: Path) -> None:
    """Beyond a megabyte they wait on disk, in their order."""
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"{bad\n" * 9000 + document(1))
    good, *bad = results(path, engine=Engine(shard_bytes=9999))
    assert isinstance(good, Done)
    assert [item.number for item in bad] == list(range(1, 9001))


# However it is cut


@pytest.mark.parametrize("size", (1, 2, 3, 7, 64, 100, 1000, 10**9))
def test_the_size_of_shards_changes_nothing(hostile: Path, size: int) -> None:
    """From a byte to all of it."""
    assert results(hostile, engine=Engine(shard_bytes=size)) == results(
        hostile, engine=Engine()
    )


@settings(deadline=None)
@given(
    pieces=st.lists(st.sampled_from([*HOSTILE, b"\n\n", b" \n"]), max_size=8),
    end=st.sampled_from([b"", b"\n", b"\r\n", b"\n\n"]),
    size=st.integers(1, 300),
)
def test_any_lines_in_any_parts(tmp_path_factory, pieces, end, size) -> None:
    """Are what they are in one."""
    path = tmp_path_factory.mktemp("any") / "t.jsonl"
    path.write_bytes(b"\n".join(pieces) + end)
    if path.read_bytes()[:4] in (HOSTILE[8][:4], HOSTILE[9][:4]):
        return  # by its name and its beginning it is compressed
    assert results(path, engine=Engine(shard_bytes=size)) == results(
        path, engine=Engine()
    )


@pytest.mark.parametrize("size", (1, 60, 500, 10**9))
def test_long_lines_come_in_pieces(
    hostile: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """They begin in one shard and end in another."""
    short = results(hostile, engine=Engine())
    monkeypatch.setattr(engine_reading, "LONG_BYTES", 50)
    expected = results(hostile, engine=Engine())
    assert results(hostile, engine=Engine(shard_bytes=size)) == expected
    assert [i for i in expected if isinstance(i, Done)] == [
        i for i in short if isinstance(i, Done)
    ]


def test_an_empty_archive_has_no_results(tmp_path: Path) -> None:
    """Nor has an empty file."""
    (tmp_path / SEALED).touch()
    assert results(tmp_path, engine=Engine()) == []


def test_each_byte_is_told_once(hostile: Path) -> None:
    """Whatever the shards, and whoever reads."""
    size = sum(path.stat().st_size for path in hostile.glob("*") if path.is_file())
    size -= (hostile / OLD.format(4)).stat().st_size  # a link
    for engine in (Engine(shard_bytes=10), Engine(ThreadPoolExecutor(2))):
        read: list[int] = []
        for _ in run(spelled, hostile, engine=engine, advance=read.append):
            pass
        assert sum(read) == size


# Whoever works


@pytest.mark.parametrize("size", (40, 5000))
def test_processes_give_the_same(hostile: Path, size: int) -> None:
    """As this one alone."""
    engine = open_engine("process", jobs=2, shard_bytes=size)
    assert results(hostile, engine=engine) == results(hostile, engine=Engine())


def test_any_executor_will_do(hostile: Path) -> None:
    """It stays its owner's, and usable."""
    with ThreadPoolExecutor(3) as threads:
        engine = Engine(threads, shard_bytes=100)
        assert results(hostile, engine=engine) == results(hostile, engine=Engine())
        assert threads.submit(int, "7").result() == 7


def test_a_large_compressed_file_is_read_here(
    hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its results would come all at once from elsewhere."""
    monkeypatch.setattr(engine_shard, "_LARGE_COMPRESSED_BYTES", 10)
    expected = results(hostile, engine=Engine())
    with ThreadPoolExecutor(2) as threads:
        assert results(hostile, engine=Engine(threads)) == expected


def test_a_pipe_is_read_here(tmp_path: Path) -> None:
    """No other process could."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(2) as threads:
        writing = threads.submit(pipe.write_bytes, document(1) + b"\n" + document(2))
        assert numbers(results(pipe, engine=Engine(threads))) == [1, 2]
        writing.result()


def test_a_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    """Its shard is done again, and nothing is there twice."""
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\n".join(document(n) for n in range(20)))
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    job = Deadly(deaths, times=2, parent=os.getpid())
    items = results(path, job=job, engine=open_engine(jobs=2, shard_bytes=120))
    assert numbers(items) == list(range(20))
    assert len(list(deaths.iterdir())) == 2


@pytest.mark.parametrize("seconds", (0.02, 0.05, 0.1, 0.2))
def test_a_worker_that_dies_telling_is_replaced(tmp_path: Path, seconds: float) -> None:
    """Nobody waits for the other half of its result."""
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\n".join(document(n) for n in range(20)))
    job = DiesTelling(tmp_path / "mark", seconds, parent=os.getpid())
    items = results(path, job=job, engine=open_engine(jobs=2, shard_bytes=120))
    assert numbers(items) == list(range(20))


def test_a_shard_that_kills_thrice_is_named(tmp_path: Path) -> None:
    """It, and not one that was under way beside it."""
    path = tmp_path / "t.jsonl"
    lines = [document(n) for n in range(20)]
    path.write_bytes(b"\n".join(lines))
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    job = Deadly(deaths, times=99, parent=os.getpid())
    size = len(lines[0]) + 1
    where = rf"t\.jsonl, bytes {5 * size} to {6 * size}: "
    with pytest.raises(ArchiveError, match=where):
        results(path, job=job, engine=open_engine(jobs=2, shard_bytes=size))


class Broken(Executor):
    """An executor that has no worker left."""

    def submit(self, *args: object, **kwargs: object) -> Future:
        """Say so."""
        raise BrokenExecutor("none is left")


def test_a_strangers_broken_executor_is_an_error(hostile: Path) -> None:
    """Only its owner could replace its workers."""
    with pytest.raises(ArchiveError, match="none is left"):
        results(hostile, engine=Engine(Broken()))


def test_few_shards_are_in_flight(tmp_path: Path) -> None:
    """Results that nobody has asked for yet take memory."""
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\n".join(document(n) for n in range(100)))
    begun = []

    def job(entry: Entry) -> bytes:
        begun.append(entry.trace_id)
        return b""

    with ThreadPoolExecutor(1) as threads:
        items = run(job, path, engine=Engine(threads, shard_bytes=60))
        next(items)
        deadline = time.monotonic() + 10
        while threads._work_queue.qsize() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(begun) <= 4
        items.close()


def test_what_was_not_asked_for_is_cancelled(tmp_path: Path) -> None:
    """A consumer that leaves early leaves no work behind."""
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\n".join(document(n) for n in range(100)))
    with ThreadPoolExecutor(1) as threads:
        items = run(spelled, path, engine=Engine(threads, shard_bytes=60))
        next(items)
        items.close()
        assert threads.submit(int, "7").result() == 7


def test_a_job_that_cannot_be_sent_is_refused(hostile: Path) -> None:
    """In words for its author."""
    with pytest.raises(ConfigError, match="cannot be sent to another process"):
        results(
            hostile,
            job=lambda entry: b"",
            engine=open_engine(jobs=2, shard_bytes=50),
        )


def test_errors_cross_processes() -> None:
    """With all that they say."""
    error = ArchiveError("is full", path="here", hint="make room", errno=28)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (str(again), again.errno, again.path) == (str(error), 28, "here")
    missing = MissingExtraError("Dask", extra="dask", reason="why")
    again = pickle.loads(pickle.dumps(missing))  # noqa: S301 - our own
    assert (str(again), again.extra) == (str(missing), "dask")


@pytest.mark.parametrize(
    "options",
    (
        {"kind": "dask"},
        {"kind": "process", "scheduler": "tcp://127.0.0.1:1"},
        {"kind": "process", "jobs": 0},
        {"kind": "none", "jobs": 2},
        {"shard_bytes": 0},
    ),
)
def test_options_that_cannot_work_are_refused(options: dict) -> None:
    """Before anything starts."""
    with pytest.raises(ConfigError):
        open_engine(**options)


# Between plan and reading


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Make one of a complete file and the one being written."""
    lines = [document(n) + b"\n" for n in range(20)]
    (tmp_path / OLD.format(1)).write_bytes(b"".join(lines[:10]))
    (tmp_path / SEALED).write_bytes(b"".join(lines[10:]))
    return tmp_path


def rotate(folder: Path) -> Path:
    """Give the file being written its last name, and begin another."""
    path = (folder / SEALED).rename(folder / OLD.format(2))
    (folder / SEALED).write_bytes(document(99) + b"\n")
    return path


def append(folder: Path) -> None:
    """Write one run more."""
    with (folder / SEALED).open("ab") as file:
        file.write(document(99) + b"\n")


def rotate_and_compress(folder: Path) -> None:
    """Leave only compressed files."""
    compress(rotate(folder))
    compress(folder / OLD.format(1))


def remove_active(folder: Path) -> None:
    """Take the file away for good."""
    (folder / SEALED).unlink()


CHANGES = (append, rotate, rotate_and_compress, remove_active)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("size", (30, 10**6))
@pytest.mark.parametrize("threads", (0, 2))
def test_no_line_is_lost_or_doubled(
    archive: Path, change: Callable[[Path], object], size: int, threads: int
) -> None:
    """Whatever becomes of the files after they were listed."""
    with ThreadPoolExecutor(2) as pool:
        engine = Engine(pool if threads else None, shard_bytes=size)
        items = run(spelled, archive, engine=engine)
        first = next(items)
        change(archive)
        rest = list(items)
    assert numbers([first, *rest]) == list(range(20))
    assert faults(rest) == []


def test_a_rewritten_file_is_read_as_it_is(archive: Path) -> None:
    """If none of it has been read yet."""
    with Plan(archive, shard_bytes=10**6) as plan:
        shard = next(plan.shards())
        (archive / OLD.format(1)).unlink()
        (archive / OLD.format(1)).write_bytes(document(1) + b"\n")
        read = engine_reading.read_shard(shard, held={}, tally=print)
        assert [line.data for line in read] == [document(1)]


def test_a_file_that_is_gone_in_the_middle_is_named(archive: Path) -> None:
    """Once, however many shards are left of it; its neighbours are read."""
    items = run(spelled, archive, engine=Engine(shard_bytes=30))
    first = next(items)
    (archive / OLD.format(1)).unlink()
    (archive / OLD.format(1)).write_bytes(document(50) + b"\n")
    rest = list(items)
    assert set(range(10, 20)) <= set(numbers(rest))
    assert 50 not in numbers([first, *rest])
    [(number, fault)] = faults(rest)
    assert (number, "do it again" in fault) == (0, True)


def test_another_file_with_its_inode_is_not_taken_for_it(archive: Path) -> None:
    """A file that was removed leaves its inode to the next one."""
    path = archive / OLD.format(1)
    with Plan(archive, shard_bytes=30) as plan:
        shard = next(plan.shards())
        other = path.rename(archive / "other.jsonl")
        os.utime(other, (1, 1))
        with pytest.raises(GoneError):
            list(engine_reading.read_shard(shard, held={}, tally=print))


def test_a_file_that_grows_is_read_as_far_as_it_was(tmp_path: Path) -> None:
    """Another program may write it, under a name of its own."""
    path = tmp_path / "mine.jsonl"
    path.write_bytes(document(1) + b"\n" + document(2) + b"\n")
    items = run(spelled, path, engine=Engine(shard_bytes=20))
    first = next(items)
    with path.open("ab") as file:
        file.write(document(3) + b"\n")
    assert numbers([first, *items]) == [1, 2]


# Places


def test_a_missing_place_is_an_error(tmp_path: Path) -> None:
    """Before anything is read."""
    with pytest.raises(ArchiveError, match="missing"):
        results(tmp_path / "missing", engine=Engine())


def test_what_a_user_names_may_be_a_link(hostile: Path) -> None:
    """It was meant."""
    link = hostile.parent / "link"
    link.symlink_to(hostile / SEALED)
    items = results(link, engine=Engine(shard_bytes=20))
    assert numbers(items) == [9, 6]
    assert {item.file for item in items} == {str(link)}


@pytest.mark.parametrize(
    ("typed", "place"),
    (
        ("traces", Path("traces")),
        ("/a/b", Path("/a/b")),
        ("file:///a/b", Path("/a/b")),
        ("s3://bucket/a", "s3://bucket/a"),
        ("simplecache::s3://bucket/a", "simplecache::s3://bucket/a"),
        ("a:b", Path("a:b")),
    ),
)
def test_urls_are_told_from_paths(typed: str, place: Path | str) -> None:
    """A URL has a scheme; of this machine's files it is a path."""
    assert place_of(typed) == place


def test_documents_can_be_read_one_by_one(hostile: Path) -> None:
    """As the reader of archives gives them."""
    told = [
        (item.trace_id, item.line.number) if isinstance(item, Entry) else item
        for item in read_places(hostile)
    ]
    expected = [
        (item.trace_id, item.line.number) if isinstance(item, Entry) else item
        for item in read_archive(hostile)
    ]
    assert told == expected


@pytest.fixture
def at_url(hostile: Path) -> str:
    """Put the hostile archive into a store in memory, where it has no links."""
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    folder = f"/{hostile.parent.name}/traces"
    for path in hostile.iterdir():
        if not path.is_symlink():
            store.pipe_file(f"{folder}/{path.name}", path.read_bytes())
    return f"memory:/{folder}"


def test_an_archive_at_a_url_is_read_as_a_folder(hostile: Path, at_url: str) -> None:
    """Whatever the shards."""
    (hostile / OLD.format(4)).unlink()
    here = results(hostile, engine=Engine())
    for size in (5, 100, 10**9):
        there = results(at_url, engine=Engine(shard_bytes=size))
        assert [item.file for item in there] == [
            item.file.replace(str(hostile), at_url) for item in here
        ]
        assert [getattr(i, "value", None) for i in there] == [
            getattr(i, "value", None) for i in here
        ]
        assert faults(there) == faults(here)


def test_what_workers_cannot_reach_is_read_here(hostile: Path, at_url: str) -> None:
    """Another process has another memory."""
    expected = results(at_url, engine=Engine())
    engine = open_engine(jobs=2, shard_bytes=1000)
    assert results(at_url, engine=engine) == expected


def test_an_object_that_is_replaced_meanwhile_is_named(at_url: str) -> None:
    """Half of one and half of another would be none."""
    import fsspec  # noqa: PLC0415 - an extra, and there

    items = run(spelled, at_url, engine=Engine(shard_bytes=30))
    first = next(items)
    store = fsspec.filesystem("memory")
    name = f"{at_url.removeprefix('memory:/')}/{OLD.format(1)}"
    store.pipe_file(name, document(50))
    rest = list(items)
    assert 50 not in numbers([first, *rest])
    assert any("do it again" in fault for _, fault in faults(rest))


def test_nothing_at_a_url_is_an_error() -> None:
    """As at a path."""
    pytest.importorskip("fsspec")
    with pytest.raises(ArchiveError, match="memory://nowhere: there is nothing"):
        results("memory://nowhere", engine=Engine())


def test_a_url_of_an_unknown_kind_is_refused() -> None:
    """In one line."""
    pytest.importorskip("fsspec")
    with pytest.raises(ConfigError, match=r"nonesuch://a/b: .*; check the URL"):
        results("nonesuch://a/b", engine=Engine())


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """For URLs, and for Dask."""
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingExtraError, match=r"loopotel-prom\[object-store\]"):
        results("s3://bucket/traces", engine=Engine())
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r"loopotel-prom\[dask\]"):
        open_engine("dask", scheduler="tcp://127.0.0.1:1")


def test_an_object_appears_when_it_is_complete() -> None:
    """And not at all if something goes wrong before."""
    store = pytest.importorskip("fsspec").filesystem("memory")
    with new_object("memory://outputs/good") as file:
        file.write(b"some")
        assert not store.exists("/outputs/good")
        file.write(b"thing")
    assert store.cat_file("/outputs/good") == b"something"
    with pytest.raises(KeyError), new_object("memory://outputs/bad") as file:
        file.write(b"some")
        raise KeyError
    assert not store.exists("/outputs/bad")


def test_results_of_partial_functions_are_fine(hostile: Path) -> None:
    """They can be sent to other processes."""
    job = partial(_tagged, tag=b"x")
    items = results(hostile, job=job, engine=open_engine(jobs=2, shard_bytes=500))
    assert {i.value for i in items if isinstance(i, Done)} == {b"x"}


def _tagged(entry: Entry, *, tag: bytes) -> bytes:
    return tag
