"""Files that are damaged: what is intact is kept, and what is not is told."""

import json
import random
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loopotel_prom.archive import layout
from loopotel_prom.archive.record import Record, decode
from loopotel_prom.cli.commands import app


@dataclass(frozen=True)
class Damaged:
    """
    An archive that a killed process has left: a sealed file and one journal.

    Attributes:
        sealed: The bytes of the one.
        name: The name of the other's only segment.
        lines: Its lines, endings included.
    """

    sealed: bytes
    name: str
    lines: tuple[bytes, ...]

    def put(self, folder: Path, journal: bytes) -> None:
        """Make the archive anew, with these bytes as its journal."""
        shutil.rmtree(folder, ignore_errors=True)
        (folder / layout.JOURNAL).mkdir(parents=True)
        (folder / layout.SEALED).write_bytes(self.sealed)
        (folder / layout.JOURNAL / self.name).write_bytes(journal)

    @property
    def journal(self) -> bytes:
        """All bytes of the journal."""
        return b"".join(self.lines)


def _record(line: bytes) -> Record:
    return decode(line.removesuffix(b"\n"))


def _iterations(lines) -> Counter:
    """Model what recovery has to find in intact lines."""
    spans = [_record(line).span for line in lines]
    return Counter((s.trace_id, s.iteration) for s in spans if hasattr(s, "iteration"))


def _found(outcome) -> Counter:
    runs = outcome.runs.items()
    return Counter({(i, n): c for i, r in runs for n, c in r.iterations.items()})


@pytest.fixture(scope="module")
def left(_children, tmp_path_factory, outcome_of) -> Damaged:
    """Have a process write runs that ended and one that did not, and die."""
    folder = tmp_path_factory.mktemp("left")
    status = _children.run(
        "write",
        archive=folder,
        acknowledgements=folder / "said",
        runs=2,
        iterations=7,
        keeps_open=9,
    )
    assert status == 0
    (segment,) = layout.segments(folder)
    with segment.open("rb") as file:
        lines = tuple(file)
    return Damaged((folder / layout.SEALED).read_bytes(), segment.name, lines)


def test_a_journal_cut_anywhere_gives_its_valid_prefix(
    left, count, outcome_of, report, tmp_path
):
    """Exactly the records that are whole survive, a last one without ending too."""
    ends = [sum(map(len, left.lines[: n + 1])) for n in range(len(left.lines))]
    offsets = range(len(left.journal) + 1)
    cuts = random.Random(5).sample(offsets, count(100, len(offsets)))
    # The longest journal first: what is sealed there is never to be lost.
    sealed = _found(outcome_of(_made(left, tmp_path, b"")))
    torn = 0
    for cut in cuts:
        outcome = outcome_of(_made(left, tmp_path, left.journal[:cut]))
        whole = sum(end - 1 <= cut for end in ends)
        assert _found(outcome) == sealed | _iterations(left.lines[:whole])
        is_torn = cut not in {0, *ends, *(end - 1 for end in ends)}
        assert outcome.recovery.torn == is_torn
        assert outcome.recovery.quarantined_lines == 0
        torn += is_torn
    report(5, "journal cut at a byte", count=len(cuts), lost=0, torn=torn)


def _made(left: Damaged, tmp_path: Path, journal: bytes) -> Path:
    left.put(tmp_path / "archive", journal)
    return tmp_path / "archive"


def test_a_bit_that_flips_costs_one_record_at_most(
    left, count, outcome_of, report, tmp_path
):
    """All others survive, a flipped line ending costs none, and it is noticed."""
    chance = random.Random(6)
    flips, lost, endings, told = count(120, 20_000), 0, 0, 0
    whole = _iterations(left.lines) | _found(outcome_of(_made(left, tmp_path, b"")))
    for _ in range(flips):
        data = bytearray(left.journal)
        place = chance.randrange(len(data))
        if chance.random() < 0.05:
            place = left.journal.index(b"\n", place)
        number = left.journal.count(b"\n", 0, place)
        data[place] ^= 1 << chance.randrange(8)
        folder = _made(left, tmp_path, bytes(data))
        assert _verified(folder) == 1, (place, number)
        outcome = outcome_of(folder)
        missing = whole - _found(outcome)
        is_ending = left.journal[place] == 10
        allowed = Counter() if is_ending else _iterations([left.lines[number]])
        assert not _found(outcome) - whole
        assert missing <= allowed, (place, number)
        found = outcome.recovery
        assert found.quarantined_lines or found.torn, (place, number)
        lost += missing.total()
        endings += is_ending
        told += bool(found.missing_spans)
    figures = {"count": flips, "lost": 0, "their_own_record_lost": lost}
    report(
        6, "bit of a journal flipped", line_endings=endings, told_as_gap=told, **figures
    )


def _verified(folder: Path) -> int:
    """Give the exit code of `loopotel-prom archive verify`."""
    result = CliRunner().invoke(app, ["archive", "verify", str(folder)])
    return result.exit_code


def test_what_was_left_verifies_without_damage(left, tmp_path):
    """Else what is told of a flipped bit would mean nothing."""
    assert _verified(_made(left, tmp_path, left.journal)) == 0


@pytest.mark.parametrize("kind", ("zeros", "garbage", "garbage with line endings"))
def test_a_tail_that_is_no_record_is_put_aside(
    kind, left, count, outcome_of, report, tmp_path
):
    """As it was found, in quarantine; the rest is kept."""
    chance = random.Random(7)
    tails = count(20, 500)
    whole = _iterations(left.lines) | _found(outcome_of(_made(left, tmp_path, b"")))
    for _ in range(tails):
        size = int(10 ** chance.uniform(0, 5.5))
        tail = bytes(size) if kind == "zeros" else chance.randbytes(size)
        if kind == "garbage":
            tail = tail.replace(b"\n", b" ")
        keeps_ending = chance.random() < 0.5
        rest = left.journal if keeps_ending else left.journal[:-1]
        folder = _made(left, tmp_path, rest + tail)
        outcome = outcome_of(folder)
        assert _found(outcome) == whole
        put_aside = (folder / layout.QUARANTINE / left.name).read_bytes()
        assert outcome.recovery.quarantined_lines
        glued = b"" if keeps_ending else left.lines[-1][:-1]
        for line in (glued + tail).split(b"\n"):
            assert line in put_aside
    report(7, f"tail of {kind}", count=tails, lost=0)


def test_a_record_that_is_gone_is_told_of_its_run_alone(
    left, count, outcome_of, report, tmp_path
):
    """As `metadata.missing_spans`, with the number that is missing."""
    chance = random.Random(8)
    times, told = count(20, 200), 0
    for _ in range(times):
        first = chance.randrange(1, len(left.lines) - 1)
        gone = range(first, min(first + chance.randrange(1, 4), len(left.lines) - 1))
        kept = [line for n, line in enumerate(left.lines) if n not in gone]
        folder = _made(left, tmp_path, b"".join(kept))
        (folder / layout.SEALED).unlink()
        outcome = outcome_of(folder)
        assert _found(outcome) == _iterations(_unmarked(kept))
        expected = _gaps(_unmarked(kept))
        found = {
            trace_id: run.document["metadata"].get("missing_spans", 0)
            for trace_id, run in outcome.runs.items()
        }
        assert found == expected
        assert outcome.recovery.missing_spans == sum(expected.values())
        told += sum(expected.values())
    report(8, "records missing in the middle", count=times, lost=0, told_as_gap=told)


def _unmarked(lines: list[bytes]) -> list[bytes]:
    """Give the lines of the runs that have no mark."""
    marked = {json.loads(line).get("sealed") for line in lines}
    return [line for line in lines if _record(line).trace_id not in {*marked}]


def _gaps(lines: list[bytes]) -> dict[str, int]:
    """Count by run the numbers that are missing below its last."""
    numbers: dict[str, set[int]] = {}
    for line in lines:
        record = _record(line)
        if record.span is not None:
            numbers.setdefault(record.span.trace_id, set()).add(record.seq)
    return {run: max(found) + 1 - len(found) for run, found in numbers.items()}
