"""OpenMetrics files, and the commands that write and replay a history."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from loopotel_prom import ltf
from loopotel_prom.exporter.openmetrics import SLICE_MS, OpenMetricsFiles
from loopotel_prom.metrics.catalogue import GOAL_SCORE
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.replay import STALE, Instant, Series
from loopotel_prom.testing import ManualClock
from loopotel_prom.tracer import LoopTracer

# 2026-03-02T08:00:00Z
_SLICE = 1_772_438_400_000
_SCORE = Series("loop_goal_score", (("loop_name", "a"), ("slot", "0")))
_TOKENS = Series("loop_tokens_total", (("loop_name", "a"),))

Run = Callable[..., subprocess.CompletedProcess[str]]


def _write(folder: Path, *instants: Instant, **options: int) -> OpenMetricsFiles:
    files = OpenMetricsFiles(folder, **options)
    files.write(instants)
    return files


def _names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def _document(*scores: float, at_s: float = 1_772_442_000, name: str = "code-repair"):
    clock = ManualClock(round(at_s * 1e9))
    with LoopTracer(name, clock=clock, pipeline=Pipeline()) as run:
        for number, score in enumerate(scores, start=1):
            clock.advance(seconds=10)
            run.emit_iteration(iteration=number, goal_score=score, evaluator_id="r")
        run.finish(outcome="success", termination_reason="goal_met")
    return run.build_trace()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Make an archive of two runs, and a bad line."""
    folder = tmp_path / "traces"
    folder.mkdir()
    first, second = _document(0.4, 0.6), _document(0.5, at_s=1_772_470_000)
    (folder / "traces.jsonl").write_bytes(
        ltf.encode(first) + b"\n{bad\n" + ltf.encode(second) + b"\n"
    )
    return folder


@pytest.fixture
def command(tmp_path: Path) -> Run:
    """Run a command in a folder of its own; it must never traceback."""

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "loopotel_prom.cli", *args],
            cwd=tmp_path,
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr
        return done

    return run


# The files.


def test_a_file_is_families_of_series_in_the_order_of_time(tmp_path):
    """One family after the other, whatever the order of the points."""
    _write(
        tmp_path,
        Instant(_SLICE, [(_TOKENS, 5), (_SCORE, 0.25)]),
        Instant(_SLICE + 1, [(_SCORE, 0.5), (_TOKENS, 7)]),
    )
    (file,) = tmp_path.iterdir()
    assert file.name == "loops-20260302T080000Z-0001.om"
    assert file.read_text().splitlines() == [
        f"# HELP loop_goal_score {GOAL_SCORE.help}",
        "# TYPE loop_goal_score gauge",
        'loop_goal_score{loop_name="a",slot="0"} 0.25 1772438400.000',
        'loop_goal_score{loop_name="a",slot="0"} 0.5 1772438400.001',
        "# HELP loop_tokens Tokens used.",
        "# TYPE loop_tokens counter",
        'loop_tokens_total{loop_name="a"} 5 1772438400.000',
        'loop_tokens_total{loop_name="a"} 7 1772438400.001',
        "# EOF",
    ]


def test_stale_marks_are_left_out(tmp_path):
    """The format has none; other numbers that are no numbers are spelled."""
    files = _write(
        tmp_path,
        Instant(_SLICE, [(_SCORE, float("inf")), (_TOKENS, float("nan"))]),
        Instant(_SLICE + 1, [(_SCORE, STALE), (_TOKENS, STALE)]),
    )
    (file,) = tmp_path.iterdir()
    values = [line.split()[-2] for line in file.read_text().splitlines()[:-1]]
    assert [v for v in values if v in ("+Inf", "NaN")] == ["+Inf", "NaN"]
    assert (files.samples, files.end_ms) == (2, _SLICE)


def test_label_values_are_escaped(tmp_path):
    """And a percent sign is none of ours."""
    name = 'a"b\\c\nd 100% %s'
    _write(
        tmp_path,
        Instant(_SLICE, [(Series("loop_iteration", (("loop_name", name),)), 1)]),
    )
    (file,) = tmp_path.iterdir()
    (family,) = text_string_to_metric_families(file.read_text())
    assert family.samples[0].labels == {"loop_name": name}


def test_a_full_file_ends_with_its_two_hours(tmp_path, monkeypatch):
    """As blocks do; a quiet one goes on to the end of the day."""
    monkeypatch.setattr("loopotel_prom.exporter.openmetrics._FEW_SAMPLES", 2)
    hours = (8, 8.5, 10, 14, 24, 26)
    day = _SLICE - 8 * 3_600_000
    _write(
        tmp_path,
        *(Instant(day + round(h * 3_600_000), [(_SCORE, h)]) for h in hours),
    )
    assert SLICE_MS == 7_200_000
    assert _names(tmp_path) == [
        "loops-20260302T080000Z-0001.om",
        "loops-20260302T100000Z-0001.om",
        "loops-20260303T000000Z-0001.om",
    ]


def test_a_file_takes_so_many_samples(tmp_path):
    """What comes then is in the next of the same two hours."""
    instants = [Instant(_SLICE + n, [(_SCORE, n), (_TOKENS, n)]) for n in range(5)]
    files = _write(tmp_path, *instants, most_samples=4)
    assert _names(tmp_path) == [
        f"loops-20260302T080000Z-000{number}.om" for number in (1, 2, 3)
    ]
    assert (files.files, files.samples) == (3, 10)


def test_of_an_export_that_cannot_be_finished_no_file_is_left(tmp_path, monkeypatch):
    """Those that were complete would be taken for all of it; others' files stay."""
    (tmp_path / "other").touch()
    files = OpenMetricsFiles(tmp_path, most_samples=1)
    synced: list[int] = []

    def fsync(_descriptor: int) -> None:
        synced.append(len(_names(tmp_path)))
        if len(synced) > 4:
            raise OSError(28, "no room")

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(OSError, match=r"-0003\.om: no room; .*do it again"):
        files.write([Instant(_SLICE + n, [(_SCORE, n)]) for n in range(5)])
    assert max(synced) > 2
    assert _names(tmp_path) == ["other"]


# The commands.


def test_an_export_is_openmetrics_to_another_parser(archive, command, tmp_path):
    """One that is strict about families and buckets."""
    done = command("export", "openmetrics", "--output", "om")
    assert done.returncode == 0, done.stderr
    for file in (tmp_path / "om").iterdir():
        for page in _pages(file.read_text()):
            families = {f.name: f for f in text_string_to_metric_families(page)}
            assert families["loop_run_final_les"].type == "histogram"
            assert {
                (sample.labels["job"], sample.labels["instance"])
                for family in families.values()
                for sample in family.samples
            } == {("loops", "archive")}


def _pages(text: str) -> Iterator[str]:
    """Cut a file by times: this parser passes over the buckets of all but the first."""
    lines = text.splitlines()
    for time_s in {line.split()[-1] for line in lines if line[0] != "#"}:
        kept = [line for line in lines if line[0] == "#" or line.endswith(time_s)]
        yield "\n".join(kept) + "\n"


def test_an_export_tells_what_to_do_next(archive, command):
    """And what it could not take."""
    done = command("export", "openmetrics", "--output", "a b")
    assert "2 runs, 1 rejected" in done.stdout
    assert "for file in 'a b'/*.om; do promtool tsdb create-blocks-from" in done.stdout
    assert "traces.jsonl: line 2" in done.stderr


def test_counts_are_told_as_json(archive, command, tmp_path):
    """One object; with --strict, the bad line is an exit code too."""
    done = command(
        *("export", "openmetrics", "--output", "om", "--json", "--strict"),
        *("--rejects", "bad.jsonl"),
    )
    told = json.loads(done.stdout)
    assert (done.returncode, told["runs"], told["rejected"]) == (1, 2, 1)
    assert told["files"] == len([*(tmp_path / "om").iterdir()])
    assert json.loads((tmp_path / "bad.jsonl").read_text())["line"] == 2


def test_labels_and_limits_are_the_users(archive, command, tmp_path):
    """Another job, more labels, fewer points."""
    command(
        *("export", "openmetrics", "--output", "om", "--label", "job=agents"),
        *("--label", "team=core", "--since", "2026-03-02T09:00:15Z"),
        *("--until", "2026-03-02T09:01:00Z", "--keep-alive", "5"),
    )
    (file,) = (tmp_path / "om").iterdir()
    lines = [line for line in file.read_text().splitlines() if line[0] != "#"]
    times = {float(line.split()[-1]) for line in lines}
    assert (min(times), max(times)) == (1_772_442_015, 1_772_442_060)
    assert all('job="agents"' in line and 'team="core"' in line for line in lines)


def test_what_is_too_new_for_blocks_is_left_out(tmp_path, command):
    """And said to be: Prometheus may hold those hours in memory."""
    file = tmp_path / "new.jsonl"
    file.write_bytes(ltf.encode(_document(0.5, at_s=time.time() - 3600)) + b"\n")
    done = command("export", "openmetrics", "new.jsonl", "--output", "om")
    assert done.returncode == 0
    assert "left out: what is later than" in done.stderr
    assert _names(tmp_path / "om") == []


@pytest.mark.parametrize(
    ("options", "said"),
    (
        (("--until", "1h"), "the last 3 hours"),
        (("--label", "job"), "NAME=VALUE"),
        (("--label", "slot=1"), "slot"),
        (("--keep-alive", "301"), "keep-alive"),
        (("--run-labels", "loop_name"), "run_labels"),
        (("--temp", "nowhere"), "no such folder"),
        (("--output", "traces"), "being read"),
        (("--output", "traces/history"), "being read"),
        (("--output", "s3://bucket/history"), "it is a URL"),
    ),
)
def test_bad_usage_of_an_export_is_told(archive, command, tmp_path, options, said):
    """In one line, before anything is written."""
    done = command("export", "openmetrics", "--output", "om", *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert not [*tmp_path.glob("**/*.om")]
    assert not [*tmp_path.glob("**/history")]


def test_two_exports_are_never_mixed(archive, command):
    """A folder that has such files is refused."""
    assert command("export", "openmetrics", "--output", "om").returncode == 0
    done = command("export", "openmetrics", "--output", "om")
    assert (done.returncode, ".om files already" in done.stderr) == (2, True)


def test_without_room_the_file_is_named_and_the_command_works_again(
    archive, command, tmp_path
):
    """In one line, and nothing is left in its way."""
    export = (sys.executable, "-m", "loopotel_prom.cli", "export", "openmetrics")
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 2; exec "$@"', "sh", *export, "--output", "om"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    error = done.stderr.splitlines()[-1]
    assert re.search(r"om/loops-\w+-0001\.om: File too large; .* do it again", error)
    assert (done.returncode, (tmp_path / "om").exists()) == (1, False)
    assert command("export", "openmetrics", "--output", "om").returncode == 0


def test_a_replay_tells_where_and_how_it_went(archive, command):
    """Lines of JSON: where to look, and what was played."""
    done = command("replay", "--speed", "max", "--listen", "127.0.0.1:0", "--json")
    begin, summary = map(json.loads, done.stdout.splitlines())
    assert begin["url"].endswith("/metrics")
    assert (begin["runs"], summary["runs"], summary["iterations"]) == (2, 2, 3)
    assert (summary["rejected"], summary["complete"]) == (1, True)


@pytest.mark.parametrize(
    ("options", "said"),
    (
        (("--speed", "fast"), "--speed fast"),
        (("--speed", "-1"), "--speed -1"),
        (("--max-gap", "nan"), "--max-gap"),
        (("--drain", "-1"), "--drain"),
    ),
)
def test_bad_usage_of_a_replay_is_told(archive, command, options, said):
    """In one line."""
    done = command("replay", "--listen", "127.0.0.1:0", *options)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr


def test_an_empty_archive_has_no_history(tmp_path, command):
    """Which is said, and no error."""
    (tmp_path / "traces").mkdir()
    export = command("export", "openmetrics", "--output", "om")
    assert (export.returncode, "nothing written" in export.stdout) == (0, True)
    played = command("replay", "--listen", "127.0.0.1:0")
    assert (played.returncode, "0 of 0 runs" in played.stdout) == (0, True)
