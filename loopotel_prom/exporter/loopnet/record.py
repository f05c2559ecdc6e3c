"""One ``ln/record-v1`` from one run."""

import re
from collections.abc import Sequence
from hashlib import sha256
from math import fsum
from typing import Any

from loopotel_prom import ltf, semconv
from loopotel_prom.errors import DocumentError
from loopotel_prom.exporter.loopnet import inference
from loopotel_prom.exporter.loopnet.bucket import bucketed
from loopotel_prom.exporter.loopnet.facts import Facts
from loopotel_prom.exporter.loopnet.options import RecordOptions
from loopotel_prom.exporter.loopnet.redact import redact_record
from loopotel_prom.exporter.loopnet.run import Run
from loopotel_prom.exporter.loopnet.schema import check
from loopotel_prom.exporter.loopnet.score import observed_les, regressions
from loopotel_prom.exporter.loopnet.slug import slug_of
from loopotel_prom.exporter.loopnet.step import Step
from loopotel_prom.exporter.loopnet.terms import SCHEMA_VERSION
from loopotel_prom.les import DEFAULT_GOAL_TARGET
from loopotel_prom.plain import text
from loopotel_prom.rfc3339 import parse_time

_TRACE_ID = re.compile(r"ltf-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_SIMULATED = ("loopbench/", "sim/", "replay/")
_SHARE_OF_ALL, _SHARE_OF_TRAIN, _SHARE_UP_TO_VAL = 100, 80, 90
_MAX_TAGS = 100
# More than this is a fault of the writer, and its sum no number that JSON has.
_MOST = {"goal_score": 1, "cost_usd": 1e12, "latency_seconds": 1e12, "tokens": 10**15}


def record_of(run: Run, options: RecordOptions) -> dict[str, Any]:
    """
    Make the record of a run.

    Raises:
        DocumentError: It cannot become a valid one; the message says why.
    """
    ltf.check_version(run.schema_version)
    uuid = _uuid(run.trace_id)
    parse_time(run.ended_at)
    _complete(run.steps, free=options.missing_cost == "zero")
    facts = Facts(run, options)
    record = _known(
        {
            "record_id": f"ln-{uuid}",
            "schema_version": SCHEMA_VERSION,
            "spec_pins": {name: semconv.SPEC_PINS[name] for name in ("lss", "les")},
            "created_at": run.ended_at,
            "source": options.source or _source(run.env_id),
            "split": split_of(uuid),
            "patterns": facts.patterns(),
            "loop_name": slug_of(run.loop_name),
            "objective": facts.objective(),
            "loop_spec": facts.loop_spec(),
            **_course(run, facts),
        }
    )
    if options.redaction is not None:
        redact_record(record, run.loop_name, options)
    check(record)
    return record


def _course(run: Run, facts: Facts) -> dict[str, Any]:
    """Give what depends on what happened in the run."""
    target = DEFAULT_GOAL_TARGET if run.goal_target is None else run.goal_target
    reason = inference.termination_reason(run, goal_target=target, budget=facts.budget)
    outcome = inference.outcome(run, reason, goal_target=target)
    if reason == "human_stop":
        run.steps[-1].is_human = True
    modes = inference.failure_modes(
        run.steps, outcome=outcome, reason=reason, goal_target=target
    )
    mode = None if outcome == "success" or not modes else modes[0]
    trajectory = [step.as_record() for step in bucketed(run.steps)]
    les = observed_les(
        trajectory,
        goal_target=target,
        outcome=outcome,
        failure_mode=mode,
        is_partial=facts.is_within_budget and outcome != "success",
    )
    return {
        "outcome": outcome,
        "termination_reason": reason,
        "failure_modes": list(modes) if modes else None,
        "failure_mode": mode,
        "trajectory": trajectory,
        "les_observed": les,
        "metadata": _known(facts.counts() | _sums(trajectory, target, run.steps)),
    }


def split_of(uuid: str) -> str:
    """
    Give the part of a corpus that a run belongs to: 80, 10 and 10 in a hundred.

    By the first 8 bytes, as a big-endian number, of the SHA-256 of the uuid's
    lower-case spelling: the same in every export, on every machine.
    """
    digest = sha256(uuid.encode()).digest()
    share = int.from_bytes(digest[:8]) % _SHARE_OF_ALL
    if share < _SHARE_OF_TRAIN:
        return "train"
    return "val" if share < _SHARE_UP_TO_VAL else "test"


def _uuid(trace_id: str) -> str:
    match = _TRACE_ID.fullmatch(trace_id)
    if match is None:
        raise DocumentError(f"its trace_id is none: {text(trace_id, limit=64)!r}")
    return match[1]


def _complete(steps: Sequence[Step], *, free: bool) -> None:
    """
    Fill in what may be filled in: a score that was not taken is the latest one.

    Raises:
        DocumentError: Something else that a record must have is unknown.
    """
    if not steps:
        raise DocumentError("it has no iteration")
    if all(step.goal_score is None for step in steps):
        raise DocumentError("no iteration has a goal score")
    latest = 0.0
    for step in steps:
        if step.goal_score is None:
            step.goal_score = latest
        latest = step.goal_score
        if step.cost_usd is None:
            if not free:
                raise DocumentError(
                    f"the cost of iteration {step.iteration} is not known;"
                    " --missing-cost zero takes it for 0"
                )
            step.cost_usd = 0.0
        if step.latency_seconds is None:
            raise DocumentError(
                f"the latency of iteration {step.iteration} is not known"
            )
        # Nested calls would double what all of this costs.
        if not (
            0 <= latest <= 1
            and 0 <= step.cost_usd <= _MOST["cost_usd"]
            and 0 <= step.latency_seconds <= _MOST["latency_seconds"]
            and (step.tokens is None or step.tokens <= _MOST["tokens"])
        ):
            raise DocumentError(_impossible(step))


def _impossible(step: Step) -> str:
    """Name the value that is negative, or beyond what any loop takes."""
    name, value, most = next(
        (name, value, most)
        for name, most in _MOST.items()
        if not 0 <= (value := getattr(step, name) or 0) <= most
    )
    return (
        f"the {name} of iteration {step.iteration} is {value:g}, not from 0 to {most:g}"
    )


def _source(env_id: str) -> str:
    """Tell LoopGym's simulations, by the name of the environment, from the rest."""
    return "synthetic" if env_id.startswith(_SIMULATED) else "case_study"


def _sums(
    trajectory: list[dict[str, Any]], goal_target: float, steps: list[Step]
) -> dict[str, Any]:
    scores = [step["goal_score"] for step in trajectory]
    tags = dict.fromkeys(code for step in steps for code in step.other_codes)
    return {
        "cost_total_usd": round(fsum(step["cost_usd"] for step in trajectory), 9),
        "goal_target": goal_target,
        "goal_final": scores[-1],
        "regression_count": regressions(scores),
        "tags": list(tags)[:_MAX_TAGS] or None,
    }


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is unknown: the format has no null."""
    return {name: value for name, value in values.items() if value is not None}
