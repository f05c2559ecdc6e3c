"""The command `loopotel-prom demo`: real LoopGym loops, live."""

import math
import queue
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from loopotel_prom.cli.demo_report import (
    Episode,
    Face,
    JsonFace,
    Summary,
    TextFace,
    episode_of,
)
from loopotel_prom.cli.ending import await_scrape, told_to_stop
from loopotel_prom.configuration import configure
from loopotel_prom.errors import ArchiveError, ConfigError
from loopotel_prom.integrations.loopgym import (
    environment_ids,
    make_environment,
    run_traced_episode,
    task_ids,
)
from loopotel_prom.settings import DEFAULT_LISTEN

_POLL_SECONDS = 0.2


def demo(
    *,
    episodes: Annotated[
        int | None,
        typer.Option(min=1, help="End after this many; without, run until Ctrl-C."),
    ] = None,
    listen: Annotated[
        str, typer.Option(help="HOST:PORT of the endpoint; port 0 takes a free one.")
    ] = DEFAULT_LISTEN,
    archive: Annotated[
        Path, typer.Option(help="Folder of the archive of LTF documents.")
    ] = Path("traces"),
    concurrency: Annotated[
        int, typer.Option(min=1, max=64, help="How many loops run at once.")
    ] = 3,
    think: Annotated[
        float,
        typer.Option(
            min=0.0, help="Mean seconds an iteration takes, as if it thought."
        ),
    ] = 0.5,
    seed: Annotated[int, typer.Option(help="Seed of the first episode.")] = 0,
    drain: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=86_400.0,
            help="At the end, wait this long for one more scrape.",
        ),
    ] = 0.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines: episodes, then a summary.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print the summary only.")
    ] = False,
) -> None:
    """
    Run LoopGym's loops and watch them live.

    Every environment and task of LoopGym in turn, several at once: each
    iteration shows on /metrics as it happens, each finished run becomes an LTF
    document in the archive.
    """
    think, drain = _seconds("--think", think), _seconds("--drain", drain)
    plan = _Plan(episodes, seed)
    with (
        configure(listen=listen, archive=archive) as configuration,
        told_to_stop() as stop,
    ):
        face: Face = JsonFace() if as_json else TextFace(quiet=quiet)
        face.begin(configuration)
        summary = Summary()
        for episode in _run_all(plan, concurrency, think, stop):
            summary.add(episode)
            face.episode(episode)
        await_scrape(configuration, drain, stop)
        configuration.flush()
        unwritten = configuration.unwritten()
        face.end(summary, archive, unwritten)
    if unwritten:
        raise ArchiveError(
            f"{unwritten} documents could not be written",
            path=str(archive),
            hint="check the space on its disk and its permissions",
        )


def _seconds(option: str, value: float) -> float:
    if not math.isfinite(value):
        raise ConfigError(f"{option} must be a number of seconds, got {value}")
    return value


class _Plan:
    """Which episodes run: every task of every environment, again and again."""

    def __init__(self, episodes: int | None, seed: int) -> None:
        self._tasks = [(e, task) for e in environment_ids() for task in task_ids(e)]
        self._limit = episodes
        self._seed = seed
        self._next = 0
        self._lock = threading.Lock()

    def take(self) -> tuple[int, str, str, int] | None:
        """Give the next episode's number, environment, task and seed."""
        with self._lock:
            index = self._next
            if self._limit is not None and index >= self._limit:
                return None
            self._next += 1
        env_id, task_id = self._tasks[index % len(self._tasks)]
        return index + 1, env_id, task_id, self._seed + index


class _Thinking:
    """An environment whose steps take time, as those of a real agent do."""

    def __init__(
        self, env: Any, mean_seconds: float, seed: int, stop: threading.Event
    ) -> None:
        self._env = env
        self._mean_seconds = mean_seconds
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._stop = stop

    def step(self) -> Any:
        """Think for a while, then step."""
        self._stop.wait(self._mean_seconds * self._random.uniform(0.5, 1.5))
        return self._env.step()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)


def _run_all(
    plan: _Plan, concurrency: int, think: float, stop: threading.Event
) -> Iterator[Episode]:
    """Run the plan in threads, until it ends or `stop` is set."""
    ended: queue.Queue[Episode | BaseException | None] = queue.Queue()

    def work() -> None:
        try:
            while not stop.is_set() and (task := plan.take()) is not None:
                ended.put(_run(*task, think=think, stop=stop))
        except BaseException as error:  # noqa: BLE001 - raised again where it is read
            ended.put(error)
        finally:
            ended.put(None)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    try:
        yield from _until_all_done(ended, len(threads))
    except BaseException:
        stop.set()
        raise


def _until_all_done(
    ended: "queue.Queue[Episode | BaseException | None]", workers: int
) -> Iterator[Episode]:
    while workers:
        try:
            # With a time-out, so that a signal is seen while nothing ends.
            item = ended.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            continue
        if item is None:
            workers -= 1
        elif isinstance(item, BaseException):
            raise item
        else:
            yield item


def _run(
    number: int,
    env_id: str,
    task_id: str,
    seed: int,
    *,
    think: float,
    stop: threading.Event,
) -> Episode:
    env = _Thinking(make_environment(env_id, seed=seed), think, seed, stop)
    _, document = run_traced_episode(env, task_id=task_id, seed=seed)
    return episode_of(number, document)
