"""Recovering long runs: what is written while the journal is read is the document."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from loopotel_prom import ltf
from loopotel_prom.archive import found_run, layout, long_document, sealed
from loopotel_prom.archive.dedupe import dedupe
from loopotel_prom.archive.follow import Follower
from loopotel_prom.archive.lines import read_lines
from loopotel_prom.archive.record import Header, encode_header, encode_mark, encode_span
from loopotel_prom.archive.recovery import recover
from loopotel_prom.span import IterationSpan, RunSpan, Span, WorkerSpan
from loopotel_prom.testing import RecordingProcessor

START_NS = 1_700_000_000_000_000_000
LONG_BYTES = 20_000
# Beyond any that a system gives to a process.
NO_PID = 2**31 - 1


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    """Let runs of a hundred spans be long ones."""
    monkeypatch.setattr(found_run, "_KEPT_SPANS", 10)
    for module in (layout, sealed):
        monkeypatch.setattr(module, "LONG_BYTES", LONG_BYTES)


def _trace_id(number: int) -> str:
    return f"ltf-00000000-0000-4000-8000-{number:012x}"


def _spans(number: int, iterations: int) -> Iterator[Span]:
    """Make a run: its start, iterations with a worker in each, and its end."""
    trace_id, root = _trace_id(number), f"{number:016x}"
    run = RunSpan(trace_id, root, START_NS, "code-repair", 0.8, env_id="prod")
    yield run
    for each in range(1, iterations + 1):
        span_id, worker_id = f"{each:016x}", f"{each + 2**32:016x}"
        time_ns = START_NS + each * 10**6
        yield WorkerSpan(trace_id, worker_id, span_id, time_ns, time_ns + 10)
        yield IterationSpan(
            *(trace_id, span_id, root, time_ns, time_ns + 20, each),
            *(each / iterations, 0.8, 0.5, 0.25),
        )
    yield replace(run, end_ns=START_NS + 10**12, outcome="success")


def _lines(spans: list[Span]) -> list[bytes]:
    return [encode_span(seq, span) for seq, span in enumerate(spans)]


@pytest.fixture
def journal(tmp_path) -> Callable[[list[bytes]], Path]:
    """Return a function that writes a dead process's journal."""

    def write(lines: list[bytes]) -> Path:
        header = Header(version=1, id="x", segment=1, pid=NO_PID, created_ns=START_NS)
        path = (
            tmp_path / "journal" / f"20260101T000000Z-{NO_PID}-0123456789abcdef.1.jsonl"
        )
        path.parent.mkdir()
        path.write_bytes(encode_header(header) + b"".join(lines))
        return tmp_path

    return write


def _documents(folder: Path) -> list[bytes]:
    paths = [*layout.rotated_files(folder), folder / layout.SEALED]
    return [x.data for path in paths if path.exists() for x in read_lines(path)]


def _names(folder: Path) -> list[str]:
    """Name the endings of the sealed files."""
    return sorted(path.name.partition(".")[2] for path in folder.glob("traces*"))


def test_a_long_run_becomes_the_document_that_it_would_have_had(journal):
    """Byte by byte, compressed, in a file of its own; the journal is gone."""
    spans = [*_spans(1, 100)]
    folder = journal(_lines(spans))
    found = recover(folder)
    assert (found.runs, found.abandoned) == ([_trace_id(1)], 0)
    assert _documents(folder) == [ltf.encode(ltf.fold(spans))]
    assert _names(folder) == ["jsonl.zst"]
    assert not layout.segments(folder)


@pytest.mark.parametrize("iterations", (3, 6, 11))
def test_a_run_that_is_not_so_long_is_appended(journal, iterations):
    """Where it was kept, and where its document was begun for nothing."""
    spans = [*_spans(1, iterations)]
    folder = journal(_lines(spans))
    recover(folder)
    assert _documents(folder) == [ltf.encode(ltf.fold(spans))]
    assert _names(folder) == ["jsonl", "jsonl.lock"]


def test_long_runs_at_the_same_time_are_kept_apart(journal):
    """And the short one among them is sealed too."""
    runs = [[*_spans(number, n)] for number, n in ((1, 80), (2, 5), (3, 90))]
    lines = [_lines(spans) for spans in runs]
    mixed = [each[n] for n in range(200) for each in lines if n < len(each)]
    folder = journal(mixed)
    recover(folder)
    expected = sorted(ltf.encode(ltf.fold(spans)) for spans in runs)
    assert sorted(_documents(folder)) == expected


def test_a_long_run_that_was_marked_is_not_sealed_again(journal):
    """Its document was begun, and nothing of it is left."""
    folder = journal([*_lines([*_spans(1, 100)]), encode_mark(_trace_id(1))])
    assert recover(folder).runs == []
    assert _names(folder) == []


def test_an_id_used_again_has_the_spans_of_its_second_run(journal):
    """Those before the mark are the first one's."""
    second = [*_spans(1, 100)]
    first = _lines([*_spans(1, 4)])
    folder = journal([*first, encode_mark(_trace_id(1)), *_lines(second)])
    recover(folder)
    assert _documents(folder) == [ltf.encode(ltf.fold(second))]


@pytest.mark.parametrize("place", (0, 5, 150))
def test_a_long_run_with_a_gap_tells_of_it(journal, place):
    """Its document is made in a second reading."""
    spans = [*_spans(1, 100)]
    lines = _lines(spans)
    folder = journal(lines[:place] + lines[place + 1 :])
    assert recover(folder).missing_spans == 1
    (document,) = map(ltf.decode, _documents(folder))
    assert document["metadata"]["missing_spans"] == 1
    assert len(document["spans"]) == len(spans) - 1 - (place > 0)


def test_lines_written_twice_count_once(journal):
    """As after a sync that failed."""
    spans = [*_spans(1, 100)]
    lines = _lines(spans)
    folder = journal(lines[:120] + lines[90:])
    recover(folder)
    assert _documents(folder) == [ltf.encode(ltf.fold(spans))]


@pytest.mark.parametrize("change", ({"loop_name": "renamed"}, {"metadata": {"a": 1}}))
def test_what_the_end_says_counts(journal, change):
    """Of the names too, which stand in each of the spans."""
    *spans, end = _spans(1, 100)
    spans.append(replace(end, **change))
    folder = journal(_lines(spans))
    recover(folder)
    assert _documents(folder) == [ltf.encode(ltf.fold(spans))]


def test_a_beginning_of_any_length_is_written(journal):
    """There is room for four kilobytes of it, packed, while it is not known."""
    *spans, end = _spans(1, 100)
    reason = os.urandom(10_000).hex()
    spans.append(replace(end, termination_reason=reason))
    folder = journal(_lines(spans))
    recover(folder)
    assert _documents(folder) == [ltf.encode(ltf.fold(spans))]
    assert _names(folder) == ["jsonl.zst"]


@pytest.mark.parametrize("after", (0, 1))
def test_a_disk_that_fails_while_the_journal_is_read_stops_no_reading(
    journal, monkeypatch, after
):
    """It is read to its end, and what was begun is begun anew."""
    spans, add, calls = [*_spans(1, 1000)], long_document.LongDocument.add, []

    def full(document: long_document.LongDocument, piece: bytes) -> None:
        calls.append(piece)
        if len(calls) == 1 + after:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(document, piece)

    monkeypatch.setattr(long_document.LongDocument, "add", full)
    folder = journal(_lines(spans))
    recover(folder)
    assert _documents(folder) == [ltf.encode(ltf.fold(spans))]
    assert _names(folder) == ["jsonl.zst"]


def test_a_follower_reads_a_recovered_document(journal, tmp_path):
    """All spans of it, whichever way it came to be compressed."""
    recorder = RecordingProcessor()
    follower = Follower(tmp_path, recorder)
    follower.poll()
    spans = [*_spans(1, 100)]
    recover(journal(_lines(spans)))
    follower.poll()
    follower.close()
    iterations = [x for x in recorder.ended if isinstance(x, IterationSpan)]
    assert [span.iteration for span in iterations] == [*range(1, 101)]
    assert follower.following.damaged_lines == 0


def test_a_recovered_document_that_has_a_copy_is_deduped(journal):
    """The one that the process sealed itself stays, as of any other run."""
    spans = [*_spans(1, 100)]
    folder = journal(_lines(spans[:-1]))
    recover(folder)
    whole = ltf.encode(ltf.fold(spans))
    (folder / layout.rotated_name()).write_bytes(whole + b"\n")
    assert dedupe(folder).copies == 1
    assert _documents(folder) == [whole]
