"""
Faults: processes that are killed, files that are damaged, disks that fail.

What is promised is in `specs/archive.md`; here it is broken into on purpose, many
times, and the same oracle judges each case (`Outcome.judge`): every iteration that
was acknowledged is in the archive, each run once, each document valid, and no
journal is left over.

An ordinary run makes few attempts at each fault. ``make test-faults`` makes all of
them (`LOOPOTEL_FAULTS=full`, half an hour), and appends the table of what it found
to the file named by `LOOPOTEL_FAULTS_REPORT`.

A process to be killed is forked by a server that has imported everything already
(`programs.py`): a kill costs milliseconds. It says what was acknowledged by writing
``<trace id> <iteration>`` lines to a file, each after the call that it is about has
returned; what is written to a file outlives a killed process.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from loopotel_prom import ltf
from loopotel_prom.archive import layout
from loopotel_prom.archive.document import DocumentStream
from loopotel_prom.archive.lines import BadLine, Line
from loopotel_prom.archive.reader import Entry, entry_of, read_items
from loopotel_prom.archive.recovery import Recovery, recover
from loopotel_prom.validate import validate_documents, validate_trace

FULL = os.environ.get("LOOPOTEL_FAULTS") == "full"
REPORT = os.environ.get("LOOPOTEL_FAULTS_REPORT")
_COLUMNS = ("row", "fault", "count", "acknowledged", "lost", "torn", "seconds", "notes")
_PROGRAMS = Path(__file__).with_name("programs.py")
_FIGURES = pytest.StashKey[list[dict[str, Any]]]()

Acknowledged = Iterable[tuple[str, int]]


@pytest.fixture(scope="session")
def count() -> Callable[[int, int], int]:
    """Choose how often: ``count(short, full)``."""
    return lambda short, full: full if FULL else short


# What is in an archive.


@dataclass(slots=True)
class Run:
    """
    One run as the archive has it.

    Attributes:
        document: All of it but its spans.
        iterations: How often each number stands in it.
        copies: How many documents there are of it; they are equal.
    """

    document: dict[str, Any]
    iterations: Counter[int]
    copies: int = 1


@dataclass(slots=True)
class Outcome:
    """
    What is left in an archive after a fault, and after recovery.

    Attributes:
        folder: The archive.
        recovery: What the last recovery did.
        runs: By trace id.
        bad: Lines that are no documents.
        acknowledged: How many iterations were judged.
        lost: How many of these are missing; 0, or `judge` has failed.
    """

    folder: Path
    recovery: Recovery = field(default_factory=Recovery)
    runs: dict[str, Run] = field(default_factory=dict)
    bad: list[BadLine] = field(default_factory=list)
    acknowledged: int = 0
    lost: int = 0

    @classmethod
    def of(cls, folder: Path, *, recovering: bool = True) -> "Outcome":
        """Recover an archive and read all of it; every document has to be valid."""
        outcome = cls(folder)
        if not folder.exists():
            return outcome  # its process was killed before it had made it
        if recovering:
            outcome.recovery = recover(folder)
            left = [path.name for path in layout.segments(folder)]
            assert not left, f"journals left over: {left}"
        lines: dict[str, set[int]] = {}
        for item in read_items(folder):
            entry = entry_of(item)
            if isinstance(entry, BadLine):
                outcome.bad.append(entry)
            else:
                outcome._add(entry, lines.setdefault(entry.trace_id, set()))
        return outcome

    def judge(self, acknowledged: Acknowledged) -> "Outcome":
        """See that each iteration that was acknowledged is there, once."""
        wanted = Counter(acknowledged)
        found = Counter(
            {
                (i, n): c
                for i, run in self.runs.items()
                for n, c in run.iterations.items()
            }
        )
        lost = wanted - found
        self.acknowledged, self.lost = wanted.total(), lost.total()
        assert not lost, f"{self.lost} of {self.acknowledged} lost: {_few(lost)}"
        double = {key: times for key, times in found.items() if times > 1}
        assert not double, f"iterations that stand twice in a document: {_few(double)}"
        return self

    def _add(self, entry: Entry, hashes: set[int]) -> None:
        if isinstance(entry.line, Line):
            digest = hash(entry.line.data)
            document = ltf.decode(entry.line.data)
            assert validate_trace(document) == (True, [])
            spans = document.pop("spans")
        else:
            stream = DocumentStream(entry.line)
            spans, document = [*stream.spans()], stream.fields
            digest = hash(json.dumps([stream.fields, spans], sort_keys=True))
            verdicts = validate_documents(entry.line.file)
            assert all(verdict.valid for verdict in verdicts)
        run = self.runs.get(entry.trace_id)
        if run is None:
            numbers = Counter(_numbers(spans))
            run = self.runs[entry.trace_id] = Run(document, numbers, copies=0)
        run.copies += 1
        hashes.add(digest)
        assert len(hashes) == 1, f"copies of {entry.trace_id} differ"


def _numbers(spans: Iterable[Any]) -> Iterator[int]:
    for span in spans:
        if span["kind"] == "iteration":
            yield span["attributes"]["loop.iteration"]


def _few(things: Iterable[Any]) -> str:
    return ", ".join(map(str, sorted(things)[:5]))


@pytest.fixture(scope="session")
def outcome_of() -> Callable[..., Outcome]:
    """
    Recover, read and judge: ``outcome_of(folder, acknowledged)``.

    `acknowledged` are pairs of trace id and iteration number. With
    ``recovering=False`` the archive is read as it is.
    """

    def judge(
        folder: Path, acknowledged: Acknowledged = (), *, recovering: bool = True
    ) -> Outcome:
        return Outcome.of(folder, recovering=recovering).judge(acknowledged)

    return judge


@pytest.fixture(scope="session")
def acknowledged_in() -> Callable[..., list[tuple[str, int]]]:
    """Read files of acknowledgements; a last line that is torn does not count."""

    def read(*paths: Path) -> list[tuple[str, int]]:
        found = []
        for path in paths:
            data = path.read_text() if path.exists() else ""
            for line in data[: data.rfind("\n") + 1].splitlines():
                trace_id, _, number = line.partition(" ")
                found.append((trace_id, int(number)))
        return found

    return read


# Processes.


class Children:
    """
    Starts children in milliseconds: functions of `programs.py`, by name.

    A child is a zombie until it is waited for, so that its number can be used to
    kill it whatever it is at.
    """

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, str(_PROGRAMS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean_environment(),
        )
        self._running: set[int] = set()

    def start(self, program: str, **arguments: Any) -> int:
        """Start a child; gives its process id."""
        pid = self._ask(program=program, arguments=arguments)
        self._running.add(pid)
        return pid

    def wait(self, pid: int) -> int:
        """Wait for a child; gives its exit code, that of a signal negative."""
        self._running.discard(pid)
        return os.waitstatus_to_exitcode(self._ask(wait=pid))

    def kill(self, pid: int, signal: int = 9) -> int:
        """Send a signal, and wait."""
        os.kill(pid, signal)
        return self.wait(pid)

    def run(self, program: str, **arguments: Any) -> int:
        """Start a child and wait for it."""
        return self.wait(self.start(program, **arguments))

    def end_all(self) -> None:
        """Kill what a test has left running."""
        for pid in [*self._running]:
            self.kill(pid)

    def close(self) -> None:
        """End the server."""
        # Its input ends here, and it with that.
        with self._server:
            self.end_all()

    def _ask(self, **request: Any) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request, default=str).encode() + b"\n")
        self._server.stdin.flush()
        answer = self._server.stdout.readline()
        assert answer, "the server of children has died"
        return int(answer)


def clean_environment() -> dict[str, str]:
    """Give the environment without settings of ours."""
    own = ("LOOPOTEL_", "TRACEPARENT")
    return {k: v for k, v in os.environ.items() if not k.startswith(own)}


@pytest.fixture(scope="session")
def _children() -> Iterator[Children]:
    children = Children()
    yield children
    children.close()


@pytest.fixture
def children(_children: Children) -> Iterator[Children]:
    """Start children that cost little."""
    yield _children
    _children.end_all()


# Figures.


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[..., None]:
    """
    Note figures for the table: ``report(1, "SIGKILL while writing", count=…)``.

    Columns are `count`, `acknowledged`, `lost` and `torn`; whatever else is named
    goes into the notes. The seconds are those of the test so far.
    """
    begin = time.monotonic()

    def note(row: int, fault: str, **figures: Any) -> None:
        line = {
            "row": row,
            "fault": fault,
            "seconds": f"{time.monotonic() - begin:.1f}",
        }
        notes = [
            f"{name.replace('_', ' ')} {_spelled(value)}"
            for name, value in figures.items()
            if name not in _COLUMNS
        ]
        known = {k: _spelled(v) for k, v in figures.items() if k in _COLUMNS}
        line |= known | {"notes": "; ".join(notes)}
        request.config.stash.setdefault(_FIGURES, []).append(line)

    return note


def _spelled(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of what was found; keep it if that is asked for."""
    config = terminalreporter.config
    figures = config.stash.get(_FIGURES, [])
    if not figures:
        return
    table = _table(sorted(figures, key=lambda line: (line["row"], line["fault"])))
    terminalreporter.section("faults" if FULL else "faults (few of each)")
    terminalreporter.write_line("\n".join(table))
    if FULL and REPORT:
        arguments = " ".join(config.invocation_params.args)
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        head = f"{now}, `LOOPOTEL_FAULTS=full pytest {arguments}`"
        with Path(REPORT).open("a", encoding="utf-8") as file:
            file.write("\n".join([head, "", *table, "", ""]))


def _table(figures: list[dict[str, Any]]) -> list[str]:
    rows = [[str(line.get(column, "")) for column in _COLUMNS] for line in figures]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    ruler = ["-" * width for width in widths]
    return [
        f"| {' | '.join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))} |"
        for row in ([*_COLUMNS], ruler, *rows)
    ]
