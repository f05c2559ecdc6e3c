"""
Hostile values: 100,000 of them, through every call that takes one.

Whatever is handed in, the host loop goes on, the document is strict JSON and
valid LTF, its line in the archive says the same, no processor fails, and the
metrics page can be read.
"""

import contextvars
import itertools
import json
import logging
import math
import numbers
import random
from collections import UserDict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from loopotel_prom import emit_iteration, ltf
from loopotel_prom.archive.processor import ArchiveProcessor
from loopotel_prom.errors import ConfigError
from loopotel_prom.exporter import JsonlExporter, trajectory_from_trace
from loopotel_prom.health import Health
from loopotel_prom.metrics import MetricsProcessor
from loopotel_prom.metrics.collector import LoopCollector
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.plain import plain_mapping
from loopotel_prom.tracer import LoopTracer
from loopotel_prom.validate import validate_trace


class HostileError(Exception):
    """What only a hostile value raises."""


def _raise(*_: object, **__: object) -> Any:
    raise HostileError


_CONVERSIONS = ("__bool__", "__float__", "__index__", "__int__", "__len__", "__iter__")
_TEXTS = ("__str__", "__repr__", "__format__")
_COMPARISONS = ("__eq__", "__hash__", "__lt__", "__le__", "__gt__", "__ge__")
_METHODS = dict.fromkeys((*_CONVERSIONS, *_TEXTS, *_COMPARISONS), _raise)


class HostileMeta(type):
    """A class that will not even say its name."""

    __name__ = property(_raise)  # type: ignore[assignment]


def _class(name: str, *bases: type, **members: object) -> type:
    return type(name, bases, members)


Nameless = HostileMeta("Nameless", (), dict(_METHODS))
NotEvenAClass = _class("NotEvenAClass", **_METHODS, __class__=property(_raise))
HostileText = _class("HostileText", str, **_METHODS)
HostileFloat = _class("HostileFloat", float, **_METHODS)
HostileInt = _class("HostileInt", int, **_METHODS)
HostileDict = _class("HostileDict", dict, **_METHODS, items=_raise, keys=_raise)
HostileList = _class("HostileList", list, **_METHODS)
HostileDate = _class("HostileDate", datetime, isoformat=_raise, astimezone=_raise)
HostileZone = _class("HostileZone", tzinfo, utcoffset=_raise, tzname=_raise)
HostileReal = _class("HostileReal", **_METHODS)
HostileWhole = _class("HostileWhole", **_METHODS)
numbers.Real.register(HostileReal)
numbers.Integral.register(HostileWhole)


class Numpyish:
    """A number that is none of Python's, as numpy's are."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return float(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __repr__(self) -> str:
        return f"np.{type(self).__name__}({self.value})"


class Real(Numpyish):
    """Such as ``numpy.float32``."""


class Whole(Numpyish):
    """Such as ``numpy.int64``."""


numbers.Real.register(Real)
numbers.Integral.register(Whole)


class SlyText(str):
    """Text that speaks of itself otherwise than it is."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\ud800"

    def __len__(self) -> int:
        return 3

    def __getitem__(self, _: object) -> Any:
        return 3

    def isascii(self) -> bool:
        return True

    def __eq__(self, _: object) -> bool:
        return True

    __hash__ = str.__hash__


class Sly:
    """Anything at all, as its class and its text have it."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    @property
    def __class__(self) -> type:
        return self.kind

    def __str__(self) -> str:
        return SlyText("\ud800" * 300)


class Endless:
    """It has no last item."""

    def __iter__(self):
        return itertools.repeat("fail.oscillation")


def _nested(levels: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = wrap(value)
    return value


def _cycle() -> list[Any]:
    value: list[Any] = [1]
    value += [value, {"value": value}]
    return value


_NUMBERS = (
    *(float("nan"), float("inf"), float("-inf"), -0.0, 5e-324, 1e308, -1e308, 1e305),
    *(
        True,
        False,
        0,
        1,
        -1,
        2**53 + 1,
        2**62,
        2**63 - 1,
        2**63,
        2**64,
        2**70,
        -(2**70),
    ),
    *(10**5000, -(10**5000), 1j, 0.5, 0.123456789, 1.0000001),
    *(Decimal("0.5"), Decimal("NaN"), Decimal("sNaN"), Decimal("1e999999")),
    *(Fraction(1, 3), Fraction(10**5000), Fraction(1, 10**5000)),
    *(Real(0.5), Real(math.nan), Real(1e39), Whole(7), Whole(-7), Whole(2**70)),
    *(HostileFloat(0.5), HostileInt(7), HostileFloat("nan"), HostileInt(2**70)),
    *(HostileReal(), HostileWhole()),
)
_STRINGS = (
    *("", "a", "ab", "abc", "success", "fail.oscillation", "x" * 65, "x" * 70_000),
    *("\ud800", "a\udfff\ud800b", "\0", "a\0b", "\u2028\u2029", "\r\n\t\x0b\x85"),
    *(
        '"',
        "\\",
        '\\"} 1\n# EOF',
        "{}",
        "é" * 300,
        "\U0001f600" * 70,
        "\ufeff",
        " " * 9,
    ),
    *("NaN", "1e999", "null", "__proto__", "</script>", "%s%n", "{0.__class__}"),
    *(SlyText("abc"), SlyText("success"), HostileText("abc"), HostileText("success")),
    HostileText("ltf-00000000-0000-4000-8000-000000000001"),
)
_OBJECTS = (
    *(None, ..., NotImplemented, object(), object, type, len, Exception("\ud800")),
    *(b"", b"\xff\x00", bytearray(3), memoryview(b"ab"), range(10**12), slice(1)),
    *(Nameless(), Nameless, NotEvenAClass(), HostileDict(a=1), HostileList([1])),
    *(UserDict(a=1), deque([1]), frozenset({1}), {1, "a"}, (), [], {}, Endless()),
    *(Sly(kind) for kind in (str, int, float, bool, dict, list, datetime, Decimal)),
    *(datetime.min, datetime.max),  # noqa: DTZ901 - the hostile thing about them
    *(datetime(2030, 1, 1, tzinfo=UTC), date.max),
    datetime.max.replace(tzinfo=timezone(-timedelta(hours=23))),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=23))),
    datetime(2020, 1, 1, tzinfo=HostileZone()),
    HostileDate(2020, 1, 1, tzinfo=UTC),
    timedelta.max,
)
_RARE = (
    "x" * 50_000_000,
    "\ud800" * 50_000_000,
    HostileText("é" * 25_000_000),
    _cycle(),
    _nested(100_000, lambda inner: [inner]),
    _nested(100_000, lambda inner: {"a": inner}),
    _nested(100_000, lambda inner: (inner,)),
    dict.fromkeys(range(20_000)),
    [[0] * 200] * 200,
)


class Draw:
    """Draws values, and counts them."""

    def __init__(self) -> None:
        # pytest-randomly seeds the module, and prints the seed.
        self._random = random.Random(random.getrandbits(64))
        self.count = 0

    def __call__(self) -> Any:
        """Draw one."""
        self.count += 1
        dice = self._random.random()
        if dice < 0.35:
            return self._random.choice(_NUMBERS)
        if dice < 0.6:
            return self._random.choice(_STRINGS)
        if dice < 0.85:
            return self._random.choice(_OBJECTS)
        if dice < 0.9:
            return self._random.uniform(-1, 2)
        if dice < 0.9995:
            return self._container()
        return self._random.choice(_RARE)

    def maybe(self, value: object) -> Any:
        """Draw one half of the time, else give `value`."""
        return self() if self._random.random() < 0.5 else value

    def choice(self, values: Sequence[Any]) -> Any:
        """Draw one of these."""
        return self._random.choice(values)

    def chance(self, share: float) -> bool:
        """Tell heads from tails."""
        return self._random.random() < share

    def _container(self) -> Any:
        items = [self() for _ in range(self._random.randrange(4))]
        kind = self._random.randrange(5)
        if kind == 0:
            return tuple(items)
        if kind == 1:
            return iter(items)
        if kind == 2:
            return dict(zip(map(str, range(9)), items, strict=False))
        if kind == 3:
            mapping: dict[Any, Any] = {}
            for item in items:
                with suppress(Exception):  # what has no hash is no key
                    mapping[item] = item
            return mapping
        return items


class Bench:
    """A pipeline like a process's own, whose every part is looked at afterwards."""

    def __init__(self, folder) -> None:
        self.health = Health()
        self.registry = CollectorRegistry()
        metrics = MetricsProcessor(health=self.health)
        self.registry.register(LoopCollector(metrics.snapshot))
        self._archive = folder / "traces.jsonl"
        self._documents: dict[str, Any] = {}
        self.pipeline = Pipeline(
            [ArchiveProcessor(folder), metrics], health=self.health
        )

    def judge(self, run: LoopTracer) -> None:
        """Look at what one run has left."""
        document = run.build_trace()
        assert strictly(json.dumps(document, ensure_ascii=False)) == document
        assert strictly(ltf.encode(document)) == document
        assert validate_trace(document) == (True, [])
        assert ltf.fold(ltf.unfold(document)) == document
        assert len(trajectory_from_trace(document)) < len(document["spans"])
        if run.enabled:
            self._documents[run.trace_id] = document

    def judge_all(self) -> None:
        """Look at what all runs have left together."""
        assert self.health.processor_failures() == {}
        lines = [strictly(line) for line in self._archive.read_bytes().splitlines()]
        assert {line["trace_id"]: line for line in lines} == self._documents
        assert len(lines) == len(self._documents)
        page = generate_latest(self.registry).decode()
        for family in text_string_to_metric_families(page):
            assert not any(math.isnan(s.value) for s in family.samples), family.name


def strictly(line: str | bytes) -> Any:
    """Read JSON as the letter has it."""
    if isinstance(line, str):
        line = line.encode()
    return json.loads(line, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise AssertionError(constant)


@pytest.fixture
def quiet(caplog):
    """Log nothing: each value would be told of."""
    with caplog.at_level(logging.CRITICAL, logger="loopotel_prom"):
        yield


@pytest.fixture
def bench(tmp_path, quiet) -> Bench:
    """Give a bench."""
    return Bench(tmp_path)


@pytest.fixture
def draw() -> Draw:
    """Give the generator."""
    return Draw()


def _iteration(draw: Draw) -> dict[str, Any]:
    return {
        "iteration": draw.maybe(1),
        "goal_score": draw.maybe(0.5),
        "goal_target": draw.maybe(None),
        "tokens_delta": draw.maybe(7),
        "cost_usd": draw.maybe(None),
        "latency_ms": draw.maybe(None),
        "worker_id": draw.maybe(None),
        "evaluator_id": draw.maybe(None),
        "failure_codes": draw.maybe(()),
        "safety_violations": draw.maybe(()),
        "human_interventions": draw.maybe(0),
    }


def _constructed(draw: Draw, bench: Bench) -> LoopTracer:
    """Make a tracer of hostile values; those that it refuses are left out."""
    options = {
        "env_id": draw(),
        "task_id": draw(),
        "goal_target": draw.maybe(0.8),
        "enabled": draw.maybe(True),
        "trace_id": draw.maybe(None),
        "started_at": draw.maybe(None),
        "ended_at": draw(),
        "outcome": draw(),
        "termination_reason": draw(),
        "metadata": draw(),
    }
    try:
        return LoopTracer(draw(), pipeline=bench.pipeline, **options)
    except ConfigError:
        for name in ("goal_target", "trace_id", "started_at"):
            del options[name]
        return LoopTracer("code-repair", pipeline=bench.pipeline, **options)


def test_hostile_settings_of_a_run(draw, bench):
    """All arguments of a tracer, of finish, and what is set on it: 15,000."""
    while draw.count < 15_000:
        run = _constructed(draw, bench)
        with run:
            run.emit_iteration(iteration=1, goal_score=0.5)
            if draw.chance(0.5):
                run.finish(outcome=draw(), termination_reason=draw())
            if draw.chance(0.5):
                run.metadata = draw()
        bench.judge(run)
        assert run.started_at <= run.ended_at if run.ended_at else not run.enabled
    bench.judge_all()


@pytest.mark.parametrize("through", ("method", "function"))
def test_hostile_iterations(draw, bench, through):
    """All keywords of emit_iteration, of the method and the function: 25,000 each."""
    while draw.count < 25_000:
        with LoopTracer("code-repair", pipeline=bench.pipeline) as run:
            emit = run.emit_iteration if through == "method" else emit_iteration
            for _ in range(20):
                emit(**_iteration(draw))
        bench.judge(run)
        assert len(run.build_trace()["spans"]) == 21
    bench.judge_all()


def _scope(draw: Draw, scope: Any) -> None:
    scope.set_attribute(draw(), draw())
    scope.add_tokens(input=draw(), output=draw(), total=draw.maybe(None))
    scope.add_cost(usd=draw())


def test_hostile_steps(draw, bench):
    """All that a step, its workers and its evaluators take: 25,000."""
    while draw.count < 25_000:
        with LoopTracer("code-repair", pipeline=bench.pipeline) as run:
            for _ in range(10):
                with run.iteration(draw()) as step:
                    _scope(draw, step)
                    step.goal_score(draw(), target=draw.maybe(None))
                    step.failure(draw())
                    step.safety_violation(draw())
                    step.human_intervention()
                    with step.worker(draw(), role=draw()) as worker:
                        _scope(draw, worker)
                    with step.evaluator(draw(), type=draw()) as judge:
                        _scope(draw, judge)
                        judge.score(draw())
        bench.judge(run)
        assert len(run.build_trace()["spans"]) == 31
    bench.judge_all()


def test_a_strict_tracer_raises_only_value_errors(draw, bench):
    """For 5,000 values that any other leaves out."""
    run = LoopTracer("code-repair", pipeline=bench.pipeline, strict=True)
    raised = 0
    while draw.count < 5_000:
        try:
            run.emit_iteration(**_iteration(draw))
        except ValueError:
            raised += 1
    assert raised > 100
    bench.judge(run)


def _disorder(draw: Draw, run: LoopTracer) -> None:
    """Enter and leave the parts of a run in any order, and end it."""
    steps = [run.iteration() for _ in range(3)]
    calls = [step.worker("w") for step in steps for _ in range(2)]
    scopes = [run, *steps, *calls]
    for _ in range(25):
        scope = draw.choice(scopes)
        if draw.chance(0.5):
            scope.__enter__()
        else:
            scope.__exit__(None, None, None)
    while run.ended_at is None:
        run.__exit__(None, None, None)


def test_hostile_order(draw, new_run, recorder, quiet):
    """What was entered and left in disorder, and again, is a tree all the same."""
    for _ in range(500):
        recorder.ended.clear()
        run = new_run()
        contextvars.copy_context().run(_disorder, draw, run)
        assert validate_trace(run.build_trace()) == (True, [])
        spans = ltf.fold(recorder.ended)["spans"]
        ids = {span["span_id"] for span in spans}
        assert len(ids) == len(spans)
        assert {span["parent_span_id"] for span in spans} <= ids | {None}


def test_hostile_documents(draw, tmp_path):
    """What the exporter, the validator and the trajectory are given: 10,000."""
    exporter = JsonlExporter(tmp_path / "traces.jsonl")
    good = LoopTracer("code-repair", pipeline=Pipeline())
    good.emit_iteration(iteration=1, goal_score=0.5, failure_codes=["fail.x"])
    text = ltf.encode(good.build_trace())
    while draw.count < 10_000:
        document = _spoiled(draw, json.loads(text))
        valid, messages = validate_trace(document)
        assert valid == (messages == [])
        exporter.export(document)
        trajectory_from_trace(plain_mapping(document))
    for line in exporter.path.read_bytes().splitlines():
        assert isinstance(strictly(line), dict)


def _spoiled(draw: Draw, document: dict[str, Any]) -> dict[str, Any]:
    """Put a hostile value in some place of the document."""
    place: Any = document
    while True:
        key = draw.choice(list(place) if isinstance(place, dict) else range(len(place)))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or draw.chance(0.2):
            place[key] = draw()
            return document
        place = inner
