"""
What OpenTelemetry's GenAI conventions would have on a run and on an evaluator.

It stands beside the `loop.*` attributes in the OpenTelemetry trace only; an LTF
document has none of it. The conventions are in development.
"""

from collections.abc import Mapping
from typing import Any, Final

from loopotel_prom import semconv
from loopotel_prom.plain import number
from loopotel_prom.termination import OTHER, reason_of

EVALUATION_RESULT: Final = "gen_ai.evaluation.result"

_OPERATION: Final = "gen_ai.operation.name"
_INVOKE_WORKFLOW: Final = "invoke_workflow"
_WORKFLOW_NAME: Final = "gen_ai.workflow.name"
_EVALUATION_NAME: Final = "gen_ai.evaluation.name"
_SCORE_VALUE: Final = "gen_ai.evaluation.score.value"
_SCORE_LABEL: Final = "gen_ai.evaluation.score.label"
# OpenTelemetry's own word for an error of a class that nobody named.
_OTHER_ERROR: Final = "_OTHER"


def run_attributes(document: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a run's span has besides, from its document's outer members."""
    attributes = {
        _OPERATION: _INVOKE_WORKFLOW,
        _WORKFLOW_NAME: document.get("loop_name"),
    }
    if document.get("outcome") == "failure":
        words = document.get("termination_reason")
        reason = reason_of(words) if isinstance(words, str) else OTHER
        attributes[semconv.ERROR_TYPE] = _OTHER_ERROR if reason == OTHER else reason
    return attributes


def evaluation(
    attributes: Mapping[Any, Any], goal_target: float | None
) -> dict[str, Any] | None:
    """Give the result that an evaluator's attributes tell; None if they tell none."""
    score = number(attributes.get(semconv.GOAL_SCORE))
    error = attributes.get(semconv.ERROR_TYPE)
    if score is None and error is None:
        return None
    result: dict[str, Any] = {
        _EVALUATION_NAME: attributes.get(semconv.EVALUATOR_ID),
        semconv.ERROR_TYPE: error,
    }
    if score is not None:
        result[_SCORE_VALUE] = score
        if goal_target is not None:
            result[_SCORE_LABEL] = "pass" if score >= goal_target else "fail"
    return result
