"""More than one process: forks, pools, subprocesses, and what ends them."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from loopotel_prom import ltf
from loopotel_prom.archive.reader import read_items
from loopotel_prom.archive.recovery import recover
from loopotel_prom.validate import validate_trace

# Of every script. A child that hangs is ended by its alarm, which its status tells.
_PRELUDE = """
import os, signal, sys, threading, traceback, warnings
# Forking beside threads is what is tested here.
warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
import loopotel_prom
from loopotel_prom import LoopTracer, current_tracer, emit_iteration
# As in `conftest.py`: a disk that is slow is waited for.
from loopotel_prom.archive import processor, spool
spool._SLOW_NS = 10**12
spool._PATIENCE_SECONDS = processor._PATIENCE_SECONDS = 60.0

def one_run(name="child-loop", iterations=1):
    with LoopTracer(name) as run:
        for number in range(1, iterations + 1):
            run.emit_iteration(iteration=number, goal_score=0.4, tokens_delta=1)
    return run

def start(work):
    pid = os.fork()
    if pid:
        return pid
    signal.alarm(100)
    try:
        work()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

def join(pid):
    assert os.waitpid(pid, 0)[1] == 0
"""


def _finished(
    code: str, folder: Path, **environment: str
) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", _PRELUDE + textwrap.dedent(code)],
        cwd=folder,
        env=_clean_environment() | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def _clean_environment() -> dict[str, str]:
    own = ("LOOPOTEL_", "TRACEPARENT")
    return {k: v for k, v in os.environ.items() if not k.startswith(own)}


@pytest.fixture
def script(tmp_path):
    """Run a script in a folder of the test's own, to its good end; give its words."""

    def run(code: str, **environment: str) -> list[str]:
        finished = _finished(code, tmp_path, **environment)
        assert finished.returncode == 0, finished.stderr
        assert finished.stderr == ""
        return finished.stdout.split()

    return run


@pytest.fixture
def archived(tmp_path):
    """Read the documents that a script has archived, each valid."""

    def read(name: str = "traces") -> list[ltf.Document]:
        # A child that ends at once may leave a run that ended in its journal.
        recover(tmp_path / name)
        # Of a file that is full by then, there is a rotated one too; and a run that
        # died before its mark may be there twice, the same.
        found: dict[str, ltf.Document] = {}
        for item in read_items(tmp_path / name):
            document = ltf.decode(item.data)
            assert found.setdefault(document["trace_id"], document) == document
        documents = list(found.values())
        assert all(validate_trace(document) == (True, []) for document in documents)
        return documents

    return read


def _iterations(document: ltf.Document) -> list[int]:
    spans = [span for span in document["spans"] if span["kind"] == "iteration"]
    return [span["attributes"]["loop.iteration"] for span in spans]


# A fork inside a run.


@pytest.mark.parametrize("end", ("sys.exit()", "os._exit(0)", "raise SystemExit"))
def test_a_run_stays_with_the_process_that_began_it(script, archived, end):
    """However a child leaves its block, the document is the parent's alone."""
    script(
        f"""
        loopotel_prom.configure(listen=None, archive="traces")
        with LoopTracer("code-repair") as run:
            run.emit_iteration(iteration=1, goal_score=0.4)
            pid = os.fork()
            if pid == 0:
                run.emit_iteration(iteration=7, goal_score=0.7)
                emit_iteration(iteration=8, goal_score=0.8)
                run.finish(outcome="failure")
                {end}
            join(pid)
            run.emit_iteration(iteration=2, goal_score=0.5)
            run.finish(outcome="success")
        """
    )
    (document,) = archived()
    assert _iterations(document) == [1, 2]
    assert document["outcome"] == "success"


def test_a_child_may_leave_the_blocks_it_was_forked_in(script, archived):
    """Run, iteration and worker are silent in it; it goes on to its own end."""
    script(
        """
        loopotel_prom.configure(listen=None, archive="traces")
        with LoopTracer("code-repair") as run:
            with run.iteration() as step, step.worker("w") as worker:
                pid = os.fork()
                worker.add_tokens(total=5)
            run.emit_iteration(iteration=2, goal_score=0.4)
        assert current_tracer() is None
        if pid:
            join(pid)
        """
    )
    (document,) = archived()
    assert [span["kind"] for span in document["spans"]] == [
        "loop",
        "iteration",
        "worker",
        "iteration",
    ]


def test_a_silent_child_keeps_the_spans_it_inherited(script):
    """It can still look at the document as it was, and its emits are no-ops."""
    words = script(
        """
        with LoopTracer("code-repair") as run:
            run.emit_iteration(iteration=1, goal_score=0.4)
            def work():
                run.emit_iteration(iteration=2, goal_score=0.4)
                with run.iteration() as step:
                    step.goal_score(0.5)
                print(run.enabled, len(run.build_trace()["spans"]), run.environment())
            join(start(work))
        """
    )
    assert words == ["False", "2", "{}"]


def test_a_run_begun_in_a_child_is_its_own(script, archived):
    """Own trace id, archived by the child, and it names the run it came from."""
    words = script(
        """
        loopotel_prom.configure(listen=None, archive="traces")
        with LoopTracer("code-repair") as run:
            with run.iteration() as step:
                join(start(one_run))
                print(step.span_id)
        print(run.trace_id)
        """
    )
    child, parent = archived()
    span_id, trace_id = words
    assert (child["loop_name"], parent["trace_id"]) == ("child-loop", trace_id)
    assert child["metadata"]["parent"] == {"trace_id": trace_id, "span_id": span_id}
    assert _iterations(child) == [1]


def test_a_grandchild_is_nested_in_the_childs_run(script, archived):
    """Forks in forks keep the chain of runs."""
    script(
        """
        loopotel_prom.configure(listen=None, archive="traces")
        def child():
            with LoopTracer("child-loop"):
                join(start(lambda: one_run("grandchild-loop")))
        with LoopTracer("code-repair"):
            join(start(child))
        """
    )
    grandchild, child, root = archived()
    assert grandchild["metadata"]["parent"]["trace_id"] == child["trace_id"]
    assert child["metadata"]["parent"]["trace_id"] == root["trace_id"]
    assert root["metadata"] == {}


def test_a_generator_forked_in_the_middle_goes_on_in_both(script, archived):
    """In the child without telling anybody."""
    script(
        """
        loopotel_prom.configure(listen=None, archive="traces")
        @loopotel_prom.trace_loop(loop_name="code-repair")
        def loop():
            pid = 0
            for number in (1, 2, 3):
                emit_iteration(iteration=number, goal_score=0.4)
                if number == 2:
                    pid = os.fork()
                yield pid
        for pid in loop():
            pass
        assert current_tracer() is None
        if pid:
            join(pid)
        """
    )
    (document,) = archived()
    assert _iterations(document) == [1, 2, 3]


def test_ids_never_repeat_between_parent_and_children(script):
    """Of twenty children, forked from one state, and their parent."""
    words = script(
        """
        def work():
            for _ in range(10):
                document = one_run(iterations=5).build_trace()
                print(document["trace_id"], *(s["span_id"] for s in document["spans"]))
        work()
        sys.stdout.flush()
        for _ in range(20):
            join(start(work))
        work()
        """
    )
    assert len(words) == len(set(words)) == 22 * 10 * 7


def test_a_child_counts_from_zero_and_the_parents_endpoint_goes_on(script):
    """While the child lives, and after it."""
    words = script(
        """
        import re, urllib.request
        from prometheus_client import CollectorRegistry
        registry = CollectorRegistry()
        handle = loopotel_prom.configure(listen="127.0.0.1:0", registry=registry)
        url = handle.url
        def total(loop):
            with urllib.request.urlopen(url + "/metrics", timeout=10) as answer:
                page = answer.read().decode()
            return re.findall(f'loop_iterations_total.*"{loop}".* (.*)', page)
        def value(loop):
            labels = {"loop_name": loop, "env_id": ""}
            return registry.get_sample_value("loop_iterations_total", labels)
        def work():
            print(value("code-repair"), handle.url)
            one_run(iterations=2)
            print(float(value("child-loop")))
            sys.stdout.flush()
            os.read(reader, 1)
        reader, writer = os.pipe()
        one_run("code-repair", iterations=3)
        pid = start(work)
        during = total("code-repair")
        os.write(writer, b"x")
        join(pid)
        print(*map(float, (*during, *total("code-repair"), *total("child-loop"))))
        handle.close()
        """
    )
    assert words == ["None", "None", "2.0", "3.0", "3.0"]


# A fork beside threads.


def test_concurrent_forks_never_deadlock(script, archived):
    """Fifty children, forked while threads hold every lock there is."""
    words = script(
        """
        import collections, logging
        logging.disable()
        loopotel_prom.configure(listen=None, archive="traces")
        over = threading.Event()
        latest, sealed = collections.deque(maxlen=4), []
        def emit():
            while not over.is_set():
                with LoopTracer("parent-loop") as run:
                    latest.append(run)
                    for _ in range(50):
                        run.emit_iteration(iteration=1, goal_score=-1)
                        with run.iteration() as step:
                            step.add_cost(usd=0.1)
                sealed.append(run)
        def look():
            while not over.is_set():
                for run in tuple(latest):
                    run.build_trace()
                loopotel_prom.configure(listen=None, archive="traces")
        def work():
            for run in latest:
                run.emit_iteration(iteration=2, goal_score=-1)
                run.build_trace()
            one_run(iterations=20)
        threads = [threading.Thread(target=f) for f in (emit, emit, emit, look)]
        for thread in threads:
            thread.start()
        for _ in range(50):
            join(start(work))
        over.set()
        for thread in threads:
            thread.join()
        print(len(sealed))
        """
    )
    names = [document["loop_name"] for document in archived()]
    assert names.count("child-loop") == 50
    assert names.count("parent-loop") == int(words[0])


def test_concurrent_forks_do_not_hold_the_archives_lock(script, archived):
    """Children that were forked during an append, and live on, are in no way."""
    words = script(
        """
        loopotel_prom.configure(listen=None, archive="traces")
        over = threading.Event()
        runs = []
        def seal():
            while not over.is_set():
                runs.append(one_run("sealed-loop"))
        reader, writer = os.pipe()
        def work():
            os.close(writer)
            os.read(reader, 1)
        threads = [threading.Thread(target=seal) for _ in range(2)]
        for thread in threads:
            thread.start()
        pids = [start(work) for _ in range(50)]
        over.set()
        for thread in threads:
            thread.join()
        one_run("last-loop")
        os.close(writer)
        for pid in pids:
            join(pid)
        print(len(runs))
        """
    )
    names = [document["loop_name"] for document in archived()]
    assert names.count("sealed-loop") == int(words[0])
    assert names.count("last-loop") == 1


def test_concurrent_forks_of_an_unconfigured_process_never_deadlock(script):
    """Nor with a pipeline that the program has made itself."""
    script(
        """
        from loopotel_prom.health import Health
        from loopotel_prom.metrics import MetricsProcessor
        from loopotel_prom.pipeline import Pipeline
        from loopotel_prom.testing import RecordingProcessor
        health = Health()
        own = Pipeline([MetricsProcessor(health=health), RecordingProcessor()])
        over = threading.Event()
        def emit(pipeline):
            with LoopTracer("code-repair", pipeline=pipeline) as run:
                while not over.is_set():
                    run.emit_iteration(iteration=1, goal_score=0.4)
        def work():
            for pipeline in (None, own):
                with LoopTracer("child-loop", pipeline=pipeline) as run:
                    run.emit_iteration(iteration=1, goal_score=0.4)
        # An import that a fork interrupts locks up any Python; so all is imported.
        one_run()
        threads = [
            threading.Thread(target=emit, args=(pipeline,))
            for pipeline in (None, own)
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in range(50):
                join(start(work))
        finally:
            over.set()
        """
    )


# Several processes, one archive.

_POOL = """
import multiprocessing, sys, warnings
warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
import loopotel_prom

def begin():
    loopotel_prom.configure(listen=None, archive="traces")

def work(number):
    with loopotel_prom.LoopTracer("code-repair", task_id=str(number)) as run:
        for iteration in range(1, 21):
            run.emit_iteration(iteration=iteration, goal_score=0.4)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    begin()
    with context.Pool(4, begin) as pool:
        pool.map(work, range(200), chunksize=5)
        pool.close()
        pool.join()
"""


@pytest.mark.parametrize("method", ("fork", "spawn", "forkserver"))
def test_concurrent_processes_lose_and_double_nothing(tmp_path, archived, method):
    """Four workers of a pool, 200 runs, one archive."""
    file = tmp_path / "pool.py"
    file.write_text(_POOL)
    command = [sys.executable, "-W", "error", str(file), method]
    environment = _clean_environment()
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=120)
    documents = archived()
    assert sorted(int(d["task_id"]) for d in documents) == [*range(200)]
    assert all(_iterations(d) == [*range(1, 21)] for d in documents)


_SLOW_CHILD = """
import multiprocessing, os, sys, time, warnings
warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
import loopotel_prom
from loopotel_prom.archive import segment, spool, upkeep

def work():
    loopotel_prom.configure(listen=None, archive="traces")
    # No background thread: the process is at its end before it comes by.
    upkeep.Upkeep.wake = lambda self: None
    spool._SLOW_NS = 0
    def write(file, lines):
        time.sleep(0.02)
        return os.write(file, lines)
    segment._write = write
    with loopotel_prom.LoopTracer("code-repair") as run:
        for iteration in range(1, 21):
            run.emit_iteration(iteration=iteration, goal_score=0.4)

if __name__ == "__main__":
    child = multiprocessing.get_context(sys.argv[1]).Process(target=work)
    child.start()
    child.join()
    sys.exit(child.exitcode)
"""


@pytest.mark.parametrize("method", ("fork", "spawn", "forkserver"))
def test_a_child_of_multiprocessing_writes_what_is_in_memory(
    tmp_path, archived, method
):
    """It ends where atexit is not heard, and its disk was slow until then."""
    file = tmp_path / "slow.py"
    file.write_text(_SLOW_CHILD)
    command = [sys.executable, str(file), method]
    environment = _clean_environment()
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=120)
    (document,) = archived()
    assert _iterations(document) == [*range(1, 21)]


def test_concurrent_forked_writers_share_the_parents_archive(script, archived):
    """Without configuring again, and the parent writes along."""
    script(
        """
        loopotel_prom.configure(listen=None, archive="traces")
        def work():
            for _ in range(50):
                one_run()
        pids = [start(work) for _ in range(4)]
        work()
        for pid in pids:
            join(pid)
        """
    )
    assert len(archived()) == 250


# How a process ends.


def test_a_process_that_vanishes_leaves_a_sound_archive(tmp_path, archived):
    """What was sealed before is there, whole."""
    code = """
    loopotel_prom.configure(listen=None, archive="traces")
    one_run("code-repair")
    with LoopTracer("code-repair") as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
        os._exit(3)
    """
    assert _finished(code, tmp_path).returncode == 3
    assert _iterations(archived()[0]) == [1]


def test_a_handled_sigterm_seals_the_run(tmp_path, archived):
    """As a failure, by the exception that the handler raised."""
    code = """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
    loopotel_prom.configure(listen=None, archive="traces")
    with LoopTracer("code-repair") as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
        signal.raise_signal(signal.SIGTERM)
    """
    assert _finished(code, tmp_path).returncode == 9
    (document,) = archived()
    assert document["outcome"] == "failure"
    assert document["spans"][0]["attributes"]["error.type"] == "SystemExit"


def test_a_child_that_is_killed_takes_nothing_with_it(script, archived):
    """By SIGTERM or SIGKILL, in the middle of its own run."""
    script(
        """
        loopotel_prom.configure(listen=None, archive="traces")
        def work():
            one_run()
            with LoopTracer("killed-loop") as run:
                run.emit_iteration(iteration=1, goal_score=0.4)
                os.write(writer, b"x")
                signal.pause()
        reader, writer = os.pipe()
        with LoopTracer("code-repair") as run:
            for number, how in enumerate((signal.SIGTERM, signal.SIGKILL)):
                pid = start(work)
                os.read(reader, 1)
                os.kill(pid, how)
                assert os.waitpid(pid, 0)[1] == how
                run.emit_iteration(iteration=number, goal_score=0.4)
        """
    )
    documents = {d["loop_name"]: d for d in archived()}
    assert _iterations(documents["code-repair"]) == [0, 1]
    assert _iterations(documents["child-loop"]) == [1]


def test_a_terminated_process_dies_as_it_would_without_us(tmp_path, archived):
    """No handler is installed, nothing is caught; its open run is recovered."""
    code = """
    loopotel_prom.configure(listen="127.0.0.1:0", archive="traces")
    one_run("code-repair")
    with LoopTracer("code-repair"):
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    """
    finished = _finished(code, tmp_path)
    assert (finished.returncode, finished.stderr) == (-signal.SIGTERM, "")
    reasons = [document["termination_reason"] for document in archived()]
    assert reasons == ["", "abandoned"]


# The environment of a subprocess.

_PRINT_PARENT = "print(one_run().build_trace()['metadata'].get('parent'))"


def _parent_in(folder: Path, **environment: str) -> str:
    return _finished(_PRINT_PARENT, folder, **environment).stdout.strip()


@pytest.mark.parametrize("keep", ("LOOPOTEL_PARENT", "TRACEPARENT"))
def test_a_subprocess_is_linked_by_its_environment(new_run, tmp_path, keep):
    """By either variable alone, down to the iteration that started it."""
    with new_run() as run, run.iteration() as step:
        variables = run.environment()
        found = _parent_in(tmp_path, **{keep: variables[keep]})
    assert found == str({"trace_id": run.trace_id, "span_id": step.span_id})


def test_our_own_variable_wins(new_run, tmp_path):
    """TRACEPARENT may be that of a request, or of another tracer."""
    with new_run() as run:
        variables = run.environment()
    variables["TRACEPARENT"] = f"00-{'a' * 32}-{'b' * 16}-01"
    assert run.trace_id in _parent_in(tmp_path, **variables)


def test_a_run_inside_a_run_of_a_subprocess_names_the_inner_one(new_run, script):
    """What is current in the process is nearer than what started the process."""
    code = """
    with LoopTracer("outer-loop") as outer:
        inner = one_run().build_trace()
    assert inner["metadata"]["parent"]["trace_id"] == outer.trace_id
    print(outer.build_trace()["metadata"]["parent"]["trace_id"])
    """
    with new_run() as run:
        assert script(code, **run.environment()) == [run.trace_id]


_TRACE_ID = "ltf-00000000-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("name", "value"),
    (
        ("LOOPOTEL_PARENT", ""),
        ("LOOPOTEL_PARENT", "ltf-1"),
        ("LOOPOTEL_PARENT", f"{_TRACE_ID}/"),
        ("LOOPOTEL_PARENT", f"{_TRACE_ID}/{'0' * 15}"),
        ("LOOPOTEL_PARENT", f"{_TRACE_ID}\n"),
        ("LOOPOTEL_PARENT", _TRACE_ID.upper()),
        ("TRACEPARENT", ""),
        ("TRACEPARENT", "00-xyz"),
        ("TRACEPARENT", f"00-{'a' * 31}-{'b' * 16}-01"),
        ("TRACEPARENT", f"00-{'0' * 32}-{'b' * 16}-01"),
        ("TRACEPARENT", f"00-{'a' * 32}-{'0' * 16}-01"),
        ("TRACEPARENT", f"ff-{'a' * 32}-{'b' * 16}-01"),
        ("TRACEPARENT", f"00-{'a' * 32}-{'b' * 16}-01-more"),
        ("TRACEPARENT", f"00-{'A' * 32}-{'b' * 16}-01"),
    ),
)
def test_a_malformed_parent_is_ignored(tmp_path, name, value):
    """Whoever set it; the run is one of its own."""
    assert _parent_in(tmp_path, **{name: value}) == "None"


# Switched off.

_OFF = """
import prometheus_client
with LoopTracer("code-repair") as run:
    assert current_tracer() is None
    run.emit_iteration(iteration=1, goal_score=0.4)
    with run.iteration() as step, step.worker("w"):
        step.goal_score(0.4)
assert run.environment() == {}
page = prometheus_client.generate_latest().decode()
print(run.enabled, "loop_" in page, "loopotel_" in page)
"""


@pytest.mark.parametrize("configured", (True, False))
def test_a_disabled_process_leaves_no_trace(script, tmp_path, configured):
    """No endpoint, no archive, no metrics, configured or not."""
    code = _OFF
    if configured:
        code = (
            'handle = loopotel_prom.configure(listen="127.0.0.1:0", archive="traces")'
            "\nassert handle.url is None\n" + code
        )
    assert script(code, LOOPOTEL_DISABLED="1") == ["False", "False", "False"]
    assert list(tmp_path.iterdir()) == []


def test_a_disabled_decorator_still_calls(script):
    """Generators too; and a forked child is disabled as well."""
    code = """
    @loopotel_prom.trace_loop(loop_name="code-repair")
    def loop():
        emit_iteration(iteration=1, goal_score=0.4)
        yield current_tracer()
    def work():
        print(*loop(), one_run().enabled)
    work()
    sys.stdout.flush()
    join(start(work))
    """
    assert script(code, LOOPOTEL_DISABLED="yes") == ["None", "False"] * 2
