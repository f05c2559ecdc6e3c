"""
System calls that fail: the loop goes on, and what the journal has taken is kept.

``strace`` lets the N-th call of a kind fail, in each thread; with ``N+`` all from
there on.
"""

import errno
import os
import re
import statistics
import time

import pytest

from loopotel_prom.archive import layout, segment, spool, upkeep
from loopotel_prom.archive.processor import ArchiveProcessor
from loopotel_prom.health import Health
from loopotel_prom.pipeline import Pipeline
from tests.faults.disks import injected, judge_child

_SAYS_WHERE = re.compile(
    r"^archive (?P<path>\S+): (?P<what>.+); the loops go on, spans are kept in memory"
    r" until it can be written to: check its folder, the space on its disk and its"
    r" permissions \(loopotel_archive_degraded\)$"
)
_DEGRADED = "the loops go on, spans are kept in memory"
_HEALED = "written to again"


def _numbers(most: int, wanted: int) -> list[int]:
    """Spread so many numbers over 1 to `most`, the first ones more densely."""
    if wanted >= most:
        return list(range(1, most + 1))
    step = (most - 2) / wanted**2
    return [round(2 + step * number**2) for number in range(wanted)]


@pytest.mark.parametrize("call", ("write", "ftruncate"))
def test_a_disk_that_is_full_once_loses_nothing(
    call, count, outcome_of, report, tmp_path
):
    """The N-th write fails, and perhaps the truncation after it: all is there."""
    acknowledged = 0
    numbers = _numbers(200, count(2 if call == "write" else 1, 200))
    for number in numbers:
        folder, said = tmp_path / f"a{number}", tmp_path / "said"
        faults = [f"write:error=ENOSPC:when={number}"]
        if call == "ftruncate":
            faults.append("ftruncate:error=EIO:when=1")
        told = judge_child(
            folder, said, before=injected(*faults), runs=8, iterations=22
        )
        outcome = outcome_of(folder, told.said)
        acknowledged += outcome.acknowledged
        assert not told.end["degraded"]
        assert (told.end["unwritten"], told.end["lost"]) == (0, 0)
        assert outcome.recovery.runs == []
        assert told.count_logged(_DEGRADED) == told.count_logged(_HEALED)
        assert told.count_logged(_DEGRADED) <= 1
    report(
        9,
        f"ENOSPC at the N-th write, once{', and no truncation' * (call != 'write')}",
        count=len(numbers),
        acknowledged=acknowledged,
        lost=0,
    )


@pytest.mark.parametrize("error", ("ENOSPC", "EIO"))
def test_what_the_journal_took_survives_a_disk_that_fails_for_good(
    error, count, outcome_of, report, tmp_path
):
    """From the N-th write on all fail: what was kept before is there."""
    acknowledged = 0
    numbers = _numbers(200, count(2, 200 if error == "ENOSPC" else 100))
    for number in numbers:
        folder, said = tmp_path / f"a{number}", tmp_path / "said"
        before = injected(f"write:error={error}:when={number}+")
        told = judge_child(folder, said, before=before, runs=8, iterations=22)
        acknowledged += outcome_of(folder, told.kept).acknowledged
        # The background thread's own calls are counted apart, and may succeed.
        faults, healed = told.count_logged(_DEGRADED), told.count_logged(_HEALED)
        assert faults >= 1
        assert faults - healed == told.end["degraded"]
    report(
        9 if error != "EIO" else 13,
        f"{error} from the N-th write on",
        count=len(numbers),
        acknowledged=acknowledged,
        lost=0,
    )


@pytest.mark.parametrize("number", (28, 122, 27, 5, 30, 13, 2, 24))
def test_the_log_says_what_happened_where_and_what_to_do(
    number, new_run, tmp_path, monkeypatch, caplog
):
    """One line for the fault, and one when it is over."""
    archive = ArchiveProcessor(tmp_path / "archive")
    archive.prepare()

    def fail(_file: int, _line: bytes) -> int:
        raise OSError(number, os.strerror(number))

    with new_run(pipeline=Pipeline([archive])) as run:
        with monkeypatch.context() as patch:
            patch.setattr(segment, "_write", fail)
            run.emit_iteration(iteration=1, goal_score=0.4)
            run.emit_iteration(iteration=2, goal_score=0.4)
            assert not archive.flush(5) or archive.unwritten() == 0
        archive.flush(5)
    archive.close()
    found = _SAYS_WHERE.match(caplog.messages[0])
    assert found
    assert found["path"] == str(tmp_path / "archive")
    assert found["what"] == os.strerror(number)
    assert caplog.messages[1:] == [f"archive {tmp_path / 'archive'}: written to again"]


def test_a_write_that_fails_once_loses_nothing(count, outcome_of, report, tmp_path):
    """EIO at the N-th write: the segment is left, and a new one begun."""
    acknowledged = 0
    numbers = _numbers(100, count(2, 100))
    for number in numbers:
        folder, said = tmp_path / f"a{number}", tmp_path / "said"
        before = injected(f"write:error=EIO:when={number}")
        told = judge_child(folder, said, before=before, runs=4, iterations=22)
        acknowledged += outcome_of(folder, told.said).acknowledged
        assert not told.end["degraded"]
    report(
        13,
        "EIO at the N-th write, once",
        count=len(numbers),
        acknowledged=acknowledged,
        lost=0,
    )


@pytest.mark.parametrize("durability", ("process", "run", "power"))
def test_a_sync_that_fails_loses_nothing(
    durability, count, outcome_of, report, tmp_path
):
    """The N-th fdatasync fails, once or from there on."""
    acknowledged, failures = 0, 0
    numbers = _numbers(40, count(1, 40))
    whens = [*numbers, *(f"{number}+" for number in numbers)]
    for number in whens:
        folder, said = tmp_path / f"a{number}", tmp_path / "said"
        before = injected(f"fdatasync:error=EIO:when={number}")
        told = judge_child(folder, said, before=before, runs=5, durability=durability)
        acknowledged += outcome_of(folder, told.said).acknowledged
        failures += told.end["sync_failures"]
    assert failures >= len(numbers) // 2
    report(
        13,
        f"EIO on fdatasync, {durability}",
        count=len(whens),
        acknowledged=acknowledged,
        lost=0,
        sync_failures=failures,
    )


def test_a_failed_sync_is_never_asked_again(tmp_path):
    """After it no file that it was about is synced once more: a new one is."""
    log, folder = tmp_path / "log", tmp_path / "archive"
    before = injected("fdatasync:error=EIO:when=3", log=log)
    before[-1] += ",fsync"
    told = judge_child(
        folder, tmp_path / "said", before=[*before, "-y"], durability="power"
    )
    calls = re.findall(r"fdatasync\(\d+<(.+?)>\) += (\S+)", log.read_text())
    failed = [place for place, (_, result) in enumerate(calls) if result == "-1"]
    assert failed
    for place in failed:
        path = calls[place][0]
        assert path not in [later for later, _ in calls[place + 1 :]], path
    (message,) = [line for line in told.logs if "a sync failed, its data" in line]
    assert message.startswith(f"archive {folder}: a sync failed")
    assert message.endswith("Input/output error; check the disk")


def test_lines_that_a_failed_sync_left_in_doubt_are_written_again(
    new_run, tmp_path, monkeypatch
):
    """They stand in the next segment, so that no power loss takes them."""
    archive = ArchiveProcessor(tmp_path)

    def fail(_file: int) -> None:
        monkeypatch.undo()
        raise OSError(5, os.strerror(5))

    with new_run(pipeline=Pipeline([archive])) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
        archive.flush(5)
        run.emit_iteration(iteration=2, goal_score=0.4)
        monkeypatch.setattr(spool, "sync_file", fail)
        archive.flush(5)
        first, second = (path.read_bytes() for path in layout.segments(tmp_path))
    archive.close()
    assert [line.count(b'{"seq":2,') for line in (first, second)] == [1, 1]
    assert b'{"seq":1,' not in second


def _opened_before(folder, said, log) -> int:
    """Count the files that a child's main thread opens before it has an archive."""
    before = injected("openat:error=EIO:when=60000", log=log)
    judge_child(folder, said, before=before, durability="run")
    lines = log.read_text().splitlines()
    main = lines[0].split()[0]
    opened = [line for line in lines if line.split()[0] == main]
    return next(n for n, line in enumerate(opened) if str(folder) in line)


@pytest.mark.parametrize("error", ("EINTR", "EAGAIN"))
def test_a_call_that_is_interrupted_loses_nothing(
    error, count, outcome_of, report, tmp_path
):
    """Whatever says "again" is asked again, or what it was for is done later."""
    said = tmp_path / "said"
    calls = ("write", "openat", "fdatasync", "fsync", "flock")[: count(2, 5)]
    first = {"openat": _opened_before(tmp_path / "first", said, tmp_path / "log")}
    acknowledged, tries = 0, 0
    for call in calls:
        for number in _numbers(20, count(1, 10)):
            folder = tmp_path / f"{call}{number}"
            when = first.get(call, 0) + number
            before = injected(f"{call}:error={error}:when={when}")
            told = judge_child(folder, said, before=before, durability="run")
            acknowledged += outcome_of(folder, told.said).acknowledged
            assert told.end["unwritten"] == 0
            tries += 1
    fault = f"{error} at the N-th {', '.join(calls)}"
    report(14, fault, count=tries, acknowledged=acknowledged, lost=0)


def test_a_disk_that_hangs_is_taken_out_of_the_way(count, outcome_of, report, tmp_path):
    """A write takes a second: the first call waits, and those behind it do not."""
    acknowledged, slowest = 0, 0.0
    tries = count(1, 30)
    for number in range(2, 2 + tries):
        folder, said = tmp_path / f"a{number}", tmp_path / "said"
        before = injected(f"write:delay_enter=1000000:when={number}")
        told = judge_child(
            folder,
            said,
            before=before,
            runs=2,
            iterations=150,
            flushes=False,
            settle_seconds=60,
        )
        acknowledged += outcome_of(folder, told.said).acknowledged
        took = [seconds for seconds in told.took if seconds < 0.9]
        slowest = max(slowest, statistics.quantiles(took, n=100)[98])
        assert len(told.took) - len(took) <= 1
        assert not told.end["degraded"]
        assert told.count_logged("a write took") >= 1
        # More than one if this machine's own disk stalls as well.
        assert told.count_logged(_DEGRADED) == told.count_logged(_HEALED) >= 1
    assert slowest < 0.05
    report(
        17,
        "a write is delayed by 1 s",
        count=tries,
        acknowledged=acknowledged,
        lost=0,
        p99_of_the_others_ms=slowest * 1e3,
    )


def test_a_disk_that_stays_slow_holds_up_one_call(count, outcome_of, tmp_path):
    """Every write takes 0.6 s: the background thread alone waits for them."""
    if not count(0, 1):
        pytest.skip("takes long; part of the full faults")
    folder, said = tmp_path / "archive", tmp_path / "said"
    before = injected("write:delay_enter=600000")
    told = judge_child(folder, said, before=before, runs=1, iterations=4, flushes=False)
    outcome_of(folder, told.said)
    assert sum(seconds > 0.05 for seconds in told.took) <= 1


def test_a_program_that_ends_while_a_sync_hangs_loses_nothing(outcome_of, tmp_path):
    """What is in memory only, as a write was slow, is in the journal in the end."""
    folder, said = tmp_path / "archive", tmp_path / "said"
    told = judge_child(
        folder,
        said,
        # So long that it is the disk that is slow, however busy the machine is.
        before=injected("write:delay_enter=3000000:when=9"),
        runs=20,
        flushes=False,
        sync_seconds=60.0,
        flush_seconds=0.1,
    )
    assert outcome_of(folder, told.said).acknowledged == 200
    assert told.end["degraded"]
    assert told.end["unwritten"]
    assert told.count_logged("closed while") == 0


# The backlog.


class _Disk:
    """
    A disk that takes nothing until it is mended; only a test's own flush asks it.

    Attributes:
        most_bytes: What it takes at a time.
        delay_seconds: How long it takes for it.
        written: What it has taken.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most_bytes = 0
        self.delay_seconds = 0.0
        self.written: list[bytes] = []
        monkeypatch.setattr(segment, "_write", self._write)
        monkeypatch.setattr(upkeep.Upkeep, "wake", lambda _self: None)

    def writes_of_spans(self) -> int:
        """Count the writes."""
        return sum(b'"span"' in lines for lines in self.written)

    def _write(self, file: int, lines: bytes) -> int:
        if len(lines) > self.most_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        time.sleep(self.delay_seconds)
        self.written.append(lines)
        return os.write(file, lines)


def _emit_into(archive: ArchiveProcessor, new_run) -> list[tuple[str, int]]:
    with new_run(pipeline=Pipeline([archive])) as run:
        for number in range(1, 51):
            run.emit_iteration(iteration=number, goal_score=0.4)
    return [(run.trace_id, number) for number in range(1, 51)]


def test_a_backlog_is_written_at_once(new_run, outcome_of, tmp_path, monkeypatch):
    """A disk that is slow at each write is asked for few."""
    archive, disk = ArchiveProcessor(tmp_path), _Disk(monkeypatch)
    said = _emit_into(archive, new_run)
    disk.most_bytes = 10**9
    assert archive.flush(30)
    assert disk.writes_of_spans() == 1
    archive.close()
    outcome_of(tmp_path, said)


def test_of_a_backlog_there_is_written_what_has_room(new_run, tmp_path, monkeypatch):
    """Line by line, if there is none for all of it."""
    health = Health()
    archive, disk = ArchiveProcessor(tmp_path, health=health), _Disk(monkeypatch)
    _emit_into(archive, new_run)
    disk.most_bytes = 1000
    archive.flush(30)
    assert disk.writes_of_spans() == 52
    assert health.archive.backlog_spans == 0
    archive.close()


def test_closing_gives_up_on_a_disk_that_stays_slow(
    new_run, tmp_path, monkeypatch, caplog
):
    """What it has not taken by then is lost, and logged: the program has to end."""
    monkeypatch.setattr(spool, "_DRAIN_LINES", 1)
    monkeypatch.setattr(spool, "_DRAIN_SECONDS", 0.05)
    archive, disk = ArchiveProcessor(tmp_path), _Disk(monkeypatch)
    with new_run(pipeline=Pipeline([archive])) as run:
        for number in range(1, 51):
            run.emit_iteration(iteration=number, goal_score=0.4)
        disk.most_bytes, disk.delay_seconds = 10**9, 0.1
        archive.close()
        assert 0 < disk.writes_of_spans() < 10
        assert "spans are lost with this process" in caplog.messages[-1]
