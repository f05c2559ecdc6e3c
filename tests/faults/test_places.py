"""Places: disks that are full, folders that go away, and what stands in the way."""

import json
import os
import random
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loopotel_prom import ltf
from loopotel_prom.archive import layout
from loopotel_prom.archive import recovery as recovery_module
from loopotel_prom.archive.processor import ArchiveProcessor
from loopotel_prom.errors import ArchiveError
from loopotel_prom.health import Health
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.rfc3339 import parse_time
from tests.faults.disks import judge_child

_DEGRADED = "the loops go on, spans are kept in memory"
_HEALED = "written to again"
_NOBODY = 65534
_FAKE_CLOCK = "libfaketime.so.1"

Mount = Callable[..., Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mount a file system below the test's folder: ``mount("-t", "tmpfs", "none")``."""
    mounted: list[Path] = []

    def at(*arguments: str) -> Path:
        place = tmp_path / f"mount-{len(mounted)}"
        place.mkdir()
        made = subprocess.run(
            ["mount", *arguments, str(place)], capture_output=True, check=False
        )
        if made.returncode:
            pytest.skip(f"nothing can be mounted here: {made.stderr.decode().strip()}")
        mounted.append(place)
        return place

    if os.geteuid():
        pytest.skip("only root can mount")
    yield at
    for place in reversed(mounted):
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def disk(mount: Mount, tmp_path: Path) -> Callable[[str], Path]:
    """Make a small disk: ``disk("tmpfs")`` of 1 MB, ``disk("ext4")`` of 8 MB."""

    def make(kind: str) -> Path:
        if kind == "tmpfs":
            return mount("-t", "tmpfs", "-o", "size=1m", "none")
        image = tmp_path / "image"
        image.write_bytes(b"")
        os.truncate(image, 8 * 1024**2)
        mkfs = shutil.which("mkfs.ext4", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if mkfs is None:
            pytest.fail("no mkfs.ext4 (Debian: e2fsprogs)", pytrace=False)
        subprocess.run([mkfs, "-q", "-m", "0", str(image)], check=True)
        return mount("-o", "loop", str(image))

    return make


def _filling(disk: Path, spare_bytes: int = 0) -> str:
    """Give the command that fills a disk, all but so many bytes."""
    filler = disk / "filler"
    return (
        f"dd if=/dev/zero of={filler} bs=4k || true;"
        f" truncate -s -{spare_bytes} {filler}"
    )


@pytest.mark.parametrize("kind", ("tmpfs", "ext4"))
def test_a_full_disk_takes_nothing_that_it_had(
    kind, disk, count, outcome_of, report, tmp_path
):
    """What was kept while it was full, and before, is there; the loop went on."""
    place = disk(kind)
    chance = random.Random(10)
    acknowledged, seals, tries = 0, 0, count(1, 100)
    for number in range(tries):
        folder, said = place / f"a{number}", tmp_path / "said"
        spare = chance.randrange(60_000)
        told = judge_child(
            folder, said, breaks=[_filling(place, spare)], runs=6, iterations=20
        )
        (place / "filler").unlink()
        outcome = outcome_of(folder, told.kept)
        acknowledged += outcome.acknowledged
        seals += told.end["seals"]
        assert outcome.bad == []
        if kind == "ext4":
            # The reserve has room for all of them.
            assert told.end["unwritten"] == 0
            assert set(told.ended) <= set(outcome.runs)
        shutil.rmtree(folder)
    report(
        10,
        f"a full {kind}",
        count=tries,
        acknowledged=acknowledged,
        lost=0,
        sealed=seals,
    )


def test_space_that_returns_is_used(disk, count, outcome_of, report, tmp_path):
    """Nothing is glued, nothing lost; the fault and its end are logged once each."""
    place = disk("tmpfs")
    chance = random.Random(11)
    acknowledged, tries = 0, count(2, 50)
    for number in range(tries):
        folder, said = place / f"a{number}", tmp_path / "said"
        told = judge_child(
            folder,
            said,
            breaks=[_filling(place, chance.randrange(8_000))],
            mends=[f"rm {place / 'filler'}"],
            runs=5,
            flushes=bool(number % 2),
            settle_seconds=10,
        )
        outcome = outcome_of(folder, told.said)
        acknowledged += outcome.acknowledged
        assert outcome.bad == []
        assert outcome.recovery.runs == []
        assert not told.end["degraded"]
        assert told.count_logged(_DEGRADED) == told.count_logged(_HEALED) == 1
        shutil.rmtree(folder)
    report(11, "space returns", count=tries, acknowledged=acknowledged, lost=0)


@pytest.mark.parametrize("fault", ("EROFS", "EACCES", "a missing folder"))
def test_a_folder_that_cannot_be_written_to_heals(
    fault, mount, count, outcome_of, report, tmp_path
):
    """It is told once; when it can be written to again, nothing is missing."""
    acknowledged, tries = 0, count(1, 20)
    said = tmp_path / "said"
    for number in range(tries):
        folder, options = tmp_path / f"a{number}", {}
        folder.mkdir()
        if fault == "EROFS":
            source = folder
            folder = mount("--bind", str(source))
            subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
            options["mends"] = [f"mount -o remount,bind,rw {folder}"]
            reason = "Read-only file system"
        elif fault == "EACCES":
            for above in folder.parents[:-2]:
                above.chmod(above.stat().st_mode | 0o055)
            os.chown(folder, _NOBODY, _NOBODY)
            options["user"] = _NOBODY
            options["breaks"] = [f"chmod 0500 {folder} {folder}/journal"]
            options["mends"] = [f"chmod 0700 {folder} {folder}/journal"]
            reason = "Permission denied"
        else:
            below = folder / "below"
            options["breaks"] = [f"rm -r {below}; touch {below}"]
            options["mends"] = [f"rm {below}"]
            folder, reason = below, "Not a directory"
        told = judge_child(folder, said, runs=5, settle_seconds=10, **options)
        acknowledged += outcome_of(folder, told.said).acknowledged
        assert told.count_logged(_DEGRADED) == told.count_logged(_HEALED) == 1
        assert told.logs[0].startswith(f"archive {folder}: {reason}; the loops go on")
        assert not told.end["degraded"]
    report(16, fault, count=tries, acknowledged=acknowledged, lost=0)


def _rename(path: Path) -> None:
    path.rename(path.with_name(f"{path.name}-old"))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


@pytest.mark.parametrize("taken_away", (_rename, _remove))
@pytest.mark.parametrize("name", ("", "journal", "traces.jsonl", "a segment"))
def test_what_is_taken_away_is_made_again(
    name, taken_away, new_run, count, report, tmp_path
):
    """The runs under way are complete in the new place."""
    tries = count(2, 50)
    for number in range(tries):
        folder = tmp_path / str(number) / "archive"
        archive = ArchiveProcessor(folder, segment_bytes=1_500)
        sink = Pipeline([archive], keeper=archive)
        with new_run(pipeline=sink):
            pass
        with new_run(pipeline=sink) as run:
            for iteration in range(1, 11):
                run.emit_iteration(iteration=iteration, goal_score=0.4)
            archive.flush(5)
            path = folder / name
            if name == "a segment":
                path = sorted(layout.segments(folder))[number % 2 + 1]
            taken_away(path)
            run.emit_iteration(iteration=11, goal_score=0.4)
            archive.flush(5)
            # As a killed process would leave it.
            spans = _journalled(folder)
            run.emit_iteration(iteration=12, goal_score=0.4)
        archive.close()
        assert spans == list(range(12))
        documents = [
            ltf.decode(line)
            for line in (folder / layout.SEALED).read_bytes().splitlines()
        ]
        assert run.build_trace() in documents
        assert layout.segments(folder) == []
    place = name or "the archive"
    report(
        27, f"{place} is taken away, {taken_away.__name__[1:]}d", count=tries, lost=0
    )


def _journalled(folder: Path) -> list[int]:
    """Read the numbers of the records that recovery would find of an open run."""
    numbers = []
    for path in sorted(layout.segments(folder), key=lambda p: int(p.suffixes[-2][1:])):
        runs: dict[str, list[int]] = {}
        for line in path.read_bytes().splitlines():
            record = json.loads(line)
            if "span" in record:
                found = runs.setdefault(record["span"]["trace_id"], [])
                found.append(record["seq"])
            runs.pop(record.get("sealed"), None)
        for found in runs.values():
            numbers += [n for n in found if not numbers or n > numbers[-1]]
    return numbers


def test_a_folder_that_is_gone_is_noticed_within_seconds(new_run, tmp_path):
    """By the background thread, while the loop says nothing."""
    archive = ArchiveProcessor(tmp_path / "archive")
    with new_run(pipeline=Pipeline([archive])) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
        _rename(tmp_path / "archive")
        begin = time.monotonic()
        while not layout.segments(tmp_path / "archive"):
            assert time.monotonic() - begin < 100, "it was not noticed"
            time.sleep(0.02)
    archive.close()


# What stands in the way.


def _link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def _link_to_folder(path: Path, victim: Path) -> None:
    victim.mkdir()
    path.symlink_to(victim)


def _pipe(path: Path, _victim: Path) -> None:
    os.mkfifo(path)


def _directory(path: Path, _victim: Path) -> None:
    path.mkdir()


def _device(path: Path, _victim: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root can make a device")


_OBSTACLES = (_link, _link_to_folder, _pipe, _directory, _device)


def _is_untouched(victim: Path) -> bool:
    return not victim.exists() or (victim.is_dir() and not any(victim.iterdir()))


@pytest.mark.parametrize("obstacle", _OBSTACLES)
@pytest.mark.parametrize("name", ("traces.jsonl", "traces.jsonl.lock"))
def test_what_is_no_sealed_file_is_refused(
    name, obstacle, new_run, report, tmp_path, caplog
):
    """It is told in a line; the run is sealed when it is out of the way."""
    folder, victim = tmp_path / "archive", tmp_path / "victim"
    folder.mkdir()
    obstacle(folder / name, victim)
    archive = ArchiveProcessor(folder)
    with new_run(pipeline=Pipeline([archive])) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
    assert archive.unwritten() == 1
    (message, *_) = caplog.messages
    assert f"{folder / 'traces.jsonl'}: cannot append: not a regular file" in message
    assert _is_untouched(victim)
    (folder / name).rmdir() if obstacle is _directory else (folder / name).unlink()
    assert archive.flush(5)
    archive.close()
    assert ltf.decode((folder / "traces.jsonl").read_bytes()) == run.build_trace()
    report(28, f"{name} is a {obstacle.__name__[1:]}", count=1)


@pytest.mark.parametrize("obstacle", (_link_to_folder, _link, _pipe, _device))
def test_a_journal_that_is_no_folder_is_refused(
    obstacle, new_run, report, tmp_path, caplog
):
    """Nothing is written through it; the run is sealed all the same."""
    folder, victim = tmp_path / "archive", tmp_path / "victim"
    folder.mkdir()
    obstacle(folder / "journal", victim)
    archive = ArchiveProcessor(folder)
    archive.prepare()
    with new_run(pipeline=Pipeline([archive])) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
    archive.close()
    assert _is_untouched(victim)
    (message,) = [line for line in caplog.messages if _DEGRADED in line]
    assert message.startswith(f"archive {folder}: ")
    assert ltf.decode((folder / "traces.jsonl").read_bytes()) == run.build_trace()
    report(28, f"journal is a {obstacle.__name__[1:]}", count=1)


@pytest.mark.parametrize("obstacle", _OBSTACLES)
@pytest.mark.parametrize("ending", ("", ".tmp"))
def test_what_stands_at_a_segments_name_is_not_written_through(
    ending, obstacle, new_run, report, tmp_path, monkeypatch
):
    """Another name is taken, or the obstacle is replaced."""
    folder, victim = tmp_path / "archive", tmp_path / "victim"
    (folder / "journal").mkdir(parents=True)
    monkeypatch.setattr(layout, "journal_name", lambda: "known-1-name")
    obstacle(folder / "journal" / f"known-1-name.1.jsonl{ending}", victim)
    archive = ArchiveProcessor(folder)
    with new_run(pipeline=Pipeline([archive])) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
        archive.flush(5)
        assert _is_untouched(victim)
        assert _journalled_in_files(folder) == [0, 1]
    archive.close()
    report(28, f"segment{ending} is a {obstacle.__name__[1:]}", count=1)


def _journalled_in_files(folder: Path) -> list[int]:
    found = []
    for path in layout.segments(folder):
        if stat.S_ISREG(path.lstat().st_mode):
            lines = path.read_bytes().splitlines()
            found += [json.loads(line)["seq"] for line in lines if b'"seq"' in line]
    return found


@pytest.mark.parametrize("obstacle", _OBSTACLES)
def test_what_stands_in_the_reserves_place_is_left_alone(
    obstacle, new_run, report, tmp_path, caplog
):
    """There is no reserve then, and nothing else is different."""
    folder, victim = tmp_path / "archive", tmp_path / "victim"
    (folder / "journal").mkdir(parents=True)
    obstacle(folder / "journal" / "reserve", victim)
    archive = ArchiveProcessor(folder)
    archive.prepare()
    with new_run(pipeline=Pipeline([archive])):
        pass
    archive.close()
    assert _is_untouched(victim)
    assert caplog.messages == []
    report(28, f"reserve is a {obstacle.__name__[1:]}", count=1)


@pytest.mark.parametrize("obstacle", _OBSTACLES)
def test_what_is_no_rotated_file_holds_nothing_up(
    obstacle, new_run, report, tmp_path, caplog
):
    """It is told once that it cannot be compressed; runs are sealed as ever."""
    victim, health = tmp_path / "victim", Health()
    folder = tmp_path / "archive"
    folder.mkdir()
    path = folder / "traces-20260101T000000Z-0123456789abcdef.jsonl"
    obstacle(path, victim)
    archive = ArchiveProcessor(folder, health=health)
    archive.prepare()
    for _ in range(3):
        with new_run(pipeline=Pipeline([archive], health=health)):
            pass
        assert archive.flush(5)
    archive.close()
    assert len((folder / "traces.jsonl").read_bytes().splitlines()) == 3
    assert _is_untouched(victim)
    assert health.processor_failures() in ({"ArchiveProcessor": 1}, {})
    if caplog.messages:
        (message,) = caplog.messages
        assert f"{path}: cannot compress: " in message
    report(28, f"rotated file is a {obstacle.__name__[1:]}", count=1)


@pytest.mark.parametrize("obstacle", _OBSTACLES)
@pytest.mark.parametrize("name", ("quarantine", "a file in it"))
def test_what_is_no_quarantine_is_refused(name, obstacle, report, tmp_path):
    """Recovery stops and says so; the damaged line stays where it is."""
    folder, victim = tmp_path / "archive", tmp_path / "victim"
    (folder / "journal").mkdir(parents=True)
    journal = folder / "journal" / "20260101T000000Z-1-0123456789abcdef.1.jsonl"
    journal.write_bytes(b"no record\nnor this\n")
    place = folder / "quarantine"
    if name != "quarantine":
        place.mkdir()
        place /= journal.name
    elif obstacle is _directory:
        return  # that is what it is to be
    obstacle(place, victim)
    with pytest.raises(ArchiveError, match=r"quarantine.*recovery stopped: .*nothing"):
        recovery_module.recover(folder)
    assert _is_untouched(victim)
    assert journal.read_bytes() == b"no record\nnor this\n"
    report(28, f"{name} is a {obstacle.__name__[1:]}", count=1)


def _fake_clock() -> str:
    places = Path("/usr/lib").glob(f"*/faketime/{_FAKE_CLOCK}")
    found = next(places, None)
    if found is None:
        pytest.fail("no libfaketime (Debian: faketime)", pytrace=False)
    return str(found)


@pytest.mark.parametrize("change", ("-1d", "+1d"))
def test_a_clock_that_is_set_moves_no_span(change, count, outcome_of, report, tmp_path):
    """By a day, in the middle: durations stay right, and names apart."""
    acknowledged, tries = 0, count(1, 50)
    for number in range(tries):
        folder, said = tmp_path / f"a{number}", tmp_path / "said"
        clock = tmp_path / "clock"
        clock.write_text("+0\n")
        library = [
            "env",
            f"LD_PRELOAD={_fake_clock()}",
            f"FAKETIME_TIMESTAMP_FILE={clock}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        ]
        told = judge_child(
            folder,
            said,
            before=library,
            runs=6,
            mends=[f"echo {change} >{clock}"],
            surrounded=True,
            rotate_bytes=9_000,
            segment_bytes=4_000,
        )
        outcome = outcome_of(folder, told.said)
        acknowledged += outcome.acknowledged
        assert outcome.bad == []
        assert outcome.recovery.runs == []
        lasted = [_seconds(run.document) for run in outcome.runs.values()]
        assert len(lasted) == 7
        assert all(0 <= seconds < 60 for seconds in lasted)
        names = [path.name for path in layout.rotated_files(folder)]
        assert len({name[:24] for name in names}) > 1, "the clock was not set"
    report(26, f"clock set by {change}", count=tries, acknowledged=acknowledged, lost=0)


def _seconds(document: dict[str, str]) -> float:
    begin, end = parse_time(document["started_at"]), parse_time(document["ended_at"])
    return (end - begin) / 1e9
