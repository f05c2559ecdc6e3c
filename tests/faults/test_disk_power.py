"""
Loss of power, at any moment: by a disk that forgets what was not synced.

A loop is run once, and all that it asks of its disk is recorded. Then the disk as
it might be found is made for each moment of that, recovered and read.
"""

import json
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopotel_prom.archive import layout
from tests.faults.disks import injected, judge_child
from tests.faults.model_disk import CALLS, OPTIONS, Call, Disk, read_log

_MARK = re.compile(rb'\{"sealed":"(ltf-[0-9a-f-]{36})","crc"')
# Nothing of what was not synced is left; all of it; or as chance decides.
_KEPT = (0.0, 1.0, 0.5, 0.9, 0.1)

Said = set[tuple[str, int]]


class Promises:
    """
    What a loss of power must not take, as the loop was told.

    Attributes:
        said: The iterations whose calls have returned.
        required: Those of them that have to be there.
        ended: The runs whose end has returned.
    """

    def __init__(self, durability: str) -> None:
        self._durability = durability
        self.said: Said = set()
        self.required: Said = set()
        self.ended: set[str] = set()

    def hear(self, data: bytes) -> None:
        """Take in what the loop has said."""
        what = json.loads(data)
        if "said" in what:
            trace_id, number = what["said"]
            self.said.add((trace_id, number))
            if self._durability == "power" and what["kept"]:
                self.required.add((trace_id, number))
        elif "ended" in what:
            self.ended.add(what["ended"])
            if self._durability in ("run", "power") and what["kept"]:
                self.required |= self.of(what["ended"])
        elif "flushed" in what:
            # All that is older than the last sync.
            self.required |= self.said

    def of(self, trace_id: str) -> Said:
        """Give what was said of a run."""
        return {(i, n) for i, n in self.said if i == trace_id}


class Recording:
    """A loop that came to its end, as its disk saw it."""

    def __init__(
        self, root: Path, durability: str, *faults: str, flushes: bool = True
    ) -> None:
        self._root = root
        self._aloud = root / "aloud"
        self._durability = durability
        log = root / "log"
        (root / "disk").mkdir()
        command = injected(*faults, log=log)[:-1]
        judge_child(
            root / "disk" / "archive",
            root / "said",
            before=[*command, f"trace={CALLS}", *OPTIONS],
            aloud=self._aloud,
            durability=durability,
            runs=9,
            iterations=14,
            surrounded=flushes,
            flushes=flushes,
            kept_spans=12 * flushes,
            segment_bytes=6_000,
            rotate_bytes=25_000 if flushes else 10**9,
        )
        places = (str(root / "disk"), str(self._aloud))
        self.calls = [c for c in read_log(log) if c.path.startswith(places)]

    def moments(self) -> Iterator[tuple[int, Disk, Promises]]:
        """Yield the disk and what was promised, after each call."""
        disk, promises = Disk(self._root / "disk"), Promises(self._durability)
        for number, call in enumerate(self.calls):
            if call.path == str(self._aloud):
                if call.data:
                    promises.hear(call.data)
            else:
                disk.apply(call)
            yield number, disk, promises


def _judge(disk: Disk, promises: Promises, place: Path, outcome_of, chance) -> int:
    """Cut the power; give how many iterations had to be there, and were."""
    judged = 0
    for kept in _KEPT:
        shutil.rmtree(place, ignore_errors=True)
        disk.survivor(place, chance, kept)
        folder = place / "archive"
        if not folder.exists():
            assert not promises.required
            continue
        marked = set()
        for path in layout.segments(folder):
            marked |= {each.decode() for each in _MARK.findall(path.read_bytes())}
        outcome = outcome_of(folder, promises.required)
        judged += outcome.acknowledged
        found = {(i, n) for i, run in outcome.runs.items() for n in run.iterations}
        for trace_id in marked:
            assert promises.of(trace_id) <= found, f"marked, and lost: {trace_id}"
        if kept == 0.0:
            # What no loss of power could take, none takes later.
            promises.required |= found & promises.said
    return judged


@pytest.mark.parametrize("durability", ("process", "run", "power"))
def test_a_loss_of_power_takes_nothing_that_was_promised(
    durability, count, outcome_of, report, tmp_path
):
    """At every moment, whatever of the unsynced the disk has kept."""
    chance = random.Random(18)
    recording = Recording(tmp_path, durability)
    step = count(61, 1)
    judged, cuts = 0, 0
    for number, disk, promises in recording.moments():
        if number % step == 0:
            cuts += len(_KEPT)
            judged += _judge(disk, promises, tmp_path / "left", outcome_of, chance)
    assert judged
    report(
        18,
        f"loss of power, {durability}",
        count=cuts,
        acknowledged=judged,
        lost=0,
        calls=len(recording.calls),
    )


@pytest.mark.parametrize("durability", ("process", "power"))
def test_a_loss_of_power_after_a_failed_sync_takes_nothing(
    durability, count, outcome_of, report, tmp_path
):
    """What the kernel dropped with the failure was written elsewhere."""
    chance = random.Random(13)
    judged, cuts = 0, 0
    for failing in range(2, count(3, 22)):
        root = tmp_path / str(failing)
        root.mkdir()
        fault = f"fdatasync:error=EIO:when={failing}"
        recording = Recording(root, durability, fault)
        for number, disk, promises in recording.moments():
            if number % count(37, 17) == 0:
                cuts += len(_KEPT)
                judged += _judge(disk, promises, root / "left", outcome_of, chance)
    report(
        18,
        f"loss of power after a failed sync, {durability}",
        count=cuts,
        acknowledged=judged,
        lost=0,
    )


def _folder(path: str) -> str:
    return str(Path(path).parent)


def _removals_too_early(calls: list[Call]) -> list[str]:
    """Find what was removed before the names of what replaces it were synced."""
    named: dict[str, str] = {}
    wrong = []
    for call in calls:
        if not call.ok:
            continue
        if call.name == "rename":
            named[call.to] = _folder(call.to)
        elif call.name == "openat" and "O_CREAT" in call.flags:
            if not call.path.endswith((".tmp", ".lock", "reserve")):
                named.setdefault(call.path, _folder(call.path))
        elif call.name == "fsync":
            named = {p: folder for p, folder in named.items() if folder != call.path}
        elif call.name == "unlink" and "/journal/" in call.path:
            wrong += [
                f"{call.path} removed, {path} not synced"
                for path in named
                if "/traces" in path
            ]
        elif call.name == "unlink":
            copy = f"{call.path}.zst"
            wrong += [f"{call.path} removed first"] * (copy in named)
    return wrong


@pytest.mark.parametrize("durability", ("process", "run", "power"))
def test_names_are_synced_before_what_they_replace_is_removed(
    durability, count, report, tmp_path
):
    """The folder, after each new name in it, by fsync."""
    removed = renamed = 0
    tries = count(1, 20)
    for number in range(tries):
        root = tmp_path / str(number)
        root.mkdir()
        calls = Recording(root, durability).calls
        assert _removals_too_early(calls) == []
        folders = {call.path for call in calls if call.name == "mkdir"}
        assert not folders & {c.path for c in calls if c.name == "fdatasync"}
        for folder in folders:
            assert any(c.name == "fsync" and c.path == _folder(folder) for c in calls)
        removed += sum(call.name == "unlink" for call in calls)
        renamed += sum(call.name == "rename" for call in calls)
    assert removed
    report(
        19,
        f"order of names and syncs, {durability}",
        count=tries,
        renamed=renamed,
        removed=removed,
    )


@pytest.mark.parametrize(
    ("durability", "journal", "sealed"),
    (("none", 0, 0), ("process", 0, 0), ("run", 0, 1), ("power", 1, 1)),
)
def test_a_call_waits_for_the_syncs_of_its_durability(
    durability, journal, sealed, tmp_path
):
    """Each iteration for the journal's with power, each end for the document's."""
    calls = Recording(tmp_path, durability, flushes=False).calls
    said = [n for n, call in enumerate(calls) if b'"said"' in call.data]
    ended = [n for n, call in enumerate(calls) if b'"ended"' in call.data]
    mine = [call for call in calls[: ended[-1]] if call.thread == calls[0].thread]
    synced = [call.path for call in mine if call.name == "fdatasync"]
    of_journal = sum("/journal/" in path for path in synced)
    # A start and an end wait as well; and one sync may serve the next.
    assert journal * len(said) * 0.9 <= of_journal <= journal * 2 * len(said)
    assert len(synced) - of_journal == sealed * len(ended)
    made = any("/journal/" in call.path for call in calls)
    assert made == (durability != "none")
