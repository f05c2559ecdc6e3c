"""Reading an archive: each run once, damage in its place, nothing in the way."""

import io
import os
import shutil
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loopotel_prom import ltf
from loopotel_prom.archive.compress import compress
from loopotel_prom.archive.files import LOCK
from loopotel_prom.archive.layout import SEALED, rotated_files, segments
from loopotel_prom.archive.lines import BadLine, LongLine, read_lines
from loopotel_prom.archive.locked import LockedFile
from loopotel_prom.archive.open_runs import OpenRun, read_open_runs, read_spans
from loopotel_prom.archive.processor import ArchiveProcessor
from loopotel_prom.archive.reader import (
    Entry,
    entry_of,
    full_prefix,
    matches,
    newest_entries,
    read_archive,
    spans_of,
)
from loopotel_prom.archive.sealed import SealedFile
from loopotel_prom.errors import ArchiveError, ConfigError
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.runs.digest import digest_of
from loopotel_prom.span import RunSpan
from loopotel_prom.tracer import LoopTracer

SAMPLE = Path(__file__).parents[2] / "specs" / "examples" / "full.good.json"


def document(number: int, **changes: object) -> bytes:
    """Spell a valid document, told from others by a number."""
    sample = ltf.decode(SAMPLE.read_bytes())
    sample["trace_id"] = f"ltf-{number:08x}-0000-4000-8000-000000000000"
    return ltf.encode(sample | changes)


def numbers(items: Iterator[Entry | BadLine]) -> list[int | str]:
    """Give the numbers back; of damage, what it says."""
    return [
        item.fault if isinstance(item, BadLine) else int(item.trace_id[4:12], 16)
        for item in items
    ]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write documents, by their numbers, and other lines into a file."""

    def do(name: str, *lines: int | bytes) -> Path:
        path = tmp_path / name
        spelled = [
            line if isinstance(line, bytes) else document(line) for line in lines
        ]
        path.write_bytes(b"".join(line + b"\n" for line in spelled))
        return path

    return do


@pytest.fixture
def processor(tmp_path: Path) -> Iterator[ArchiveProcessor]:
    """Archive into the test's folder."""
    made = ArchiveProcessor(tmp_path)
    yield made
    made.close()


@pytest.fixture
def running(processor: ArchiveProcessor) -> Iterator[LoopTracer]:
    """Have a run under way, three iterations long."""
    with LoopTracer(
        "code-repair", goal_target=0.8, pipeline=Pipeline([processor])
    ) as run:
        for number in (1, 2, 3):
            run.emit_iteration(
                iteration=number, goal_score=number / 10, tokens_delta=7, cost_usd=0.5
            )
        yield run


def test_files_are_read_in_the_order_of_their_names(write, tmp_path):
    """Rotated files first, the one being written last."""
    write(SEALED, 5, 6)
    write("traces-20260102T000000Z-aa.jsonl", 3, 4)
    write("traces-20260101T000000Z-bb.jsonl", 1, 2)
    assert numbers(read_archive(tmp_path)) == [1, 2, 3, 4, 5, 6]
    assert numbers(read_archive(tmp_path, newest_first=True)) == [5, 6, 3, 4, 1, 2]


def test_a_run_is_given_once(write, tmp_path):
    """However many copies of it there are, in one file or in several."""
    write(SEALED, 1, 2, 2)
    write("traces-20260101T000000Z-aa.jsonl", 1)
    assert numbers(read_archive(tmp_path)) == [1, 2]


def test_files_can_be_named_one_by_one(write, tmp_path):
    """As a folder is, and together with one; each run still comes once."""
    one, two = write("a.jsonl", 1, 2), write("b.jsonl", 2, 3)
    assert numbers(read_archive(one, two)) == [1, 2, 3]


def test_damage_stands_in_its_place_and_stops_nothing(write, tmp_path):
    """A torn line, one that is no document, one without an id."""
    torn = document(9)[:100]
    path = write(SEALED, 1, torn, b"[]", b'{"a":1}', b"\0" * 9, 2)
    items = list(read_archive(tmp_path))
    assert numbers(items)[:1] + numbers(items)[-1:] == [1, 2]
    bad = items[1]
    assert isinstance(bad, BadLine)
    assert (bad.file, bad.number, bad.offset) == (str(path), 2, len(document(1)) + 1)
    assert numbers(items)[3] == "no LTF document: it has no trace_id"
    assert len(items) == 6


def test_values_of_odd_types_leave_a_head(write, tmp_path):
    """What is no text is absent, and the run is listed all the same."""
    write(SEALED, document(1, loop_name=7, outcome=[1], started_at={"a": None}))
    (entry,) = read_archive(tmp_path)
    assert isinstance(entry, Entry)
    assert (entry.head.loop_name, entry.head.outcome) == (None, None)


def test_a_rotation_while_reading_hides_nothing(write, tmp_path):
    """Nor does it show anything twice: the open file is known by its inode."""
    write(SEALED, 1, 2)
    items = read_archive(tmp_path)
    write("traces-20260101T000000Z-aa.jsonl", 0)
    first = next(items)
    SealedFile(tmp_path / SEALED).rotate()
    SealedFile(tmp_path / SEALED).append(document(3))
    assert numbers(iter([first, *items])) == [0, 1, 2]
    assert numbers(read_archive(tmp_path)) == [0, 1, 2, 3]


def test_a_compression_while_reading_hides_nothing(write, tmp_path):
    """A plain file that is gone when its turn comes is read from its copy."""
    write("traces-20260101T000000Z-aa.jsonl", 1)
    later = write("traces-20260102T000000Z-aa.jsonl", 2)
    items = read_archive(tmp_path)
    first = next(items)
    compress(later)
    assert not later.exists()
    assert numbers(iter([first, *items])) == [1, 2]


def test_an_append_under_way_is_no_damage(write, tmp_path):
    """The reader waits for the lock, and reads to the end of the last append."""
    path = write(SEALED, 1)
    lock = LockedFile.of(path)
    lock.acquire(1.0)
    half = len(document(2)) // 2
    with path.open("ab") as file:
        file.write(document(2)[:half])
        file.flush()

        def finish() -> None:
            file.write(document(2)[half:] + b"\n")
            file.flush()

        found: list[int | str] = []
        reader = threading.Thread(
            target=lambda: found.extend(numbers(read_archive(tmp_path)))
        )
        reader.start()
        finish()
    lock.release()
    reader.join()
    assert found == [1, 2]


@pytest.mark.parametrize("kind", ("fifo", "link", "folder"))
@pytest.mark.parametrize("name", (SEALED, "traces-20260101T000000Z-aa.jsonl"))
def test_what_is_no_regular_file_is_refused(write, tmp_path, kind, name):
    """It is told, not opened, followed or waited for."""
    write("traces-20260102T000000Z-aa.jsonl", 1)
    path = tmp_path / name
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(SAMPLE)
    found = numbers(read_archive(tmp_path))
    assert 1 in found
    assert len(found) == 2


@pytest.mark.parametrize("name", ("nowhere", "a/b"))
def test_nothing_there_is_one_clear_error(tmp_path, name):
    """An archive that does not exist is no empty one."""
    with pytest.raises(ArchiveError, match="name an archive's folder"):
        list(read_archive(tmp_path / name))


def test_memory_stays_constant(write, tmp_path):
    """Twelve megabytes take less than one."""
    big = document(0, metadata={"note": "x" * 20_000})
    path = write(SEALED)
    with path.open("wb") as file:
        for number in range(600):
            file.write(big.replace(b"ltf-00000000", b"ltf-%08x" % number) + b"\n")
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_archive(tmp_path)) == 600
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_500_000


def test_a_long_line_can_be_read_after_its_head(tmp_path):
    """Its bytes come whole, and its spans are summed up."""
    data = document(7)
    for read in (lambda e: b"".join(e.pieces()) == data, lambda e: digest_of(e).tokens):
        items = read_lines(io.BytesIO(data + b"\n"), held_bytes=50)
        item = next(items)
        assert isinstance(item, LongLine)
        entry = entry_of(item)
        assert isinstance(entry, Entry)
        assert entry.head.loop_name == "code-repair"
        assert read(entry)


@pytest.mark.parametrize(
    ("typed", "full"),
    (
        ("0b6f", "ltf-0b6f"),
        ("ltf-0B6F2c1e5", "ltf-0b6f2c1e-5"),
        ("0b6f2c1e-5d3a-4c8e", "ltf-0b6f2c1e-5d3a-4c8e"),
        (
            "0b6f2c1e5d3a4c8e9f471a2b3c4d5e6f",
            "ltf-0b6f2c1e-5d3a-4c8e-9f47-1a2b3c4d5e6f",
        ),
    ),
)
def test_the_beginning_of_an_id_is_enough(typed, full):
    """With or without its prefix and its dashes, in either case."""
    assert full_prefix(typed) == full


@pytest.mark.parametrize("typed", ("", "abc", "ltf-", "xyz12345", "0" * 33, "\x1b[2J"))
def test_what_begins_no_id_is_refused(typed):
    """Fewer than four digits, or what is no digit."""
    with pytest.raises(ConfigError, match="is no trace id"):
        full_prefix(typed)


def test_runs_are_found_by_the_beginning_of_their_id(write, tmp_path):
    """In the newest file first; a mention of the id elsewhere does not count."""
    parent = "ltf-00000001-0000-4000-8000-000000000000"
    write(SEALED, document(2, metadata={"parent": parent}), b"bad 00000001", 1)
    write("traces-20260101T000000Z-aa.jsonl", 1, 0x11)
    assert numbers(matches(tmp_path, trace_id="ltf-000000")) == [2, 1, 0x11]
    (found,) = matches(tmp_path, trace_id=parent)
    assert found.line.file.endswith(SEALED)


def test_what_was_sealed_last_comes_first(write, tmp_path):
    """Copies too, and damage is passed over."""
    write(SEALED, 2, b"{", 1)
    write("traces-20260101T000000Z-aa.jsonl", 1)
    assert numbers(newest_entries(tmp_path)) == [2, 1, 1]


def test_of_compressed_files_the_newest_entries_are_the_first(write, tmp_path):
    """A long document, which is written compressed, is the first of its file."""
    long = document(3, metadata={"padding": "x" * 100_000})
    for utc, contents in (("02", (long, 4)), ("01", (1, 2)), ("03", (5, 6))):
        compress(write(f"traces-202601{utc}T000000Z-aa.jsonl", *contents))
    write("traces-20260104T000000Z-aa.jsonl", 7, 8)
    assert numbers(newest_entries(tmp_path)) == [7, 8, 5, 3, 1]


def test_newest_entries_are_of_files_written_to_since(write, tmp_path):
    """What was not touched since is not opened."""
    for number in range(3):
        path = write(f"traces-2026010{number}T000000Z-aa.jsonl", number)
        os.utime(path, ns=(number, number))
    assert numbers(newest_entries(tmp_path, since_ns=1)) == [2, 1]


def test_the_spans_of_a_run_come_from_its_document(write, tmp_path):
    """As unfolding gives them, but the run's own."""
    write(SEALED, 1, 2)
    spans = ltf.unfold(ltf.decode(document(2)))
    trace_id = spans[0].trace_id
    assert list(spans_of(tmp_path, trace_id)) == spans[1:]
    assert list(spans_of(tmp_path, full_prefix("ffff"))) == []


def test_a_run_under_way_is_in_the_journal(running, tmp_path):
    """With what it has come to so far, and a living owner."""
    (run,) = read_open_runs(tmp_path)
    assert isinstance(run, OpenRun)
    assert run.trace_id == running.trace_id
    assert (run.is_live, run.has_ended, run.missing) == (True, False, 0)
    assert (run.iterations, run.goal_score, run.tokens) == (3, 0.3, 21)
    assert (run.cost_usd, run.run.loop_name) == (1.5, "code-repair")


def test_its_spans_are_in_the_journal(running, tmp_path):
    """The start first, then what has ended."""
    start, *others = read_spans(tmp_path, running.trace_id)
    assert isinstance(start, RunSpan)
    assert [span.iteration for span in others] == [1, 2, 3]


def test_a_sealed_run_is_open_no_more(running, processor, tmp_path):
    """Its mark says so."""
    with LoopTracer("triage", pipeline=Pipeline([processor])) as other:
        other.emit_iteration(iteration=1, goal_score=0.5)
    processor.flush(5.0)
    assert [run.trace_id for run in read_open_runs(tmp_path)] == [running.trace_id]
    assert [entry.trace_id for entry in read_archive(tmp_path)] == [other.trace_id]


def test_the_torn_end_of_a_living_journal_is_no_damage(running, tmp_path):
    """It is being written; of a dead one it is told."""
    (segment,) = segments(tmp_path)
    with segment.open("ab") as file:
        file.write(b'{"seq":9,"spa')
    assert len(list(read_open_runs(tmp_path))) == 1
    shutil.copytree(tmp_path, tmp_path / "copy")
    bad, run = read_open_runs(tmp_path / "copy")
    assert isinstance(bad, BadLine)
    assert bad.fault == "the checksum does not hold"
    assert isinstance(run, OpenRun)
    assert not run.is_live


def test_a_damaged_record_is_told_and_counted_as_missing(running, tmp_path):
    """Those around it are read."""
    shutil.copytree(tmp_path, tmp_path / "copy")
    (segment,) = segments(tmp_path / "copy")
    data = bytearray(segment.read_bytes())
    data[data.index(b'"iteration":2')] ^= 1
    segment.write_bytes(data)
    bad, run = read_open_runs(tmp_path / "copy")
    assert isinstance(bad, BadLine)
    assert isinstance(run, OpenRun)
    assert (run.iterations, run.missing) == (2, 1)


def test_a_lock_that_is_no_file_stops_no_reader(write, tmp_path):
    """Reading goes on without it."""
    write(SEALED, 1)
    os.mkfifo(tmp_path / LOCK)
    assert numbers(read_archive(tmp_path)) == [1]
    assert rotated_files(tmp_path) == []
