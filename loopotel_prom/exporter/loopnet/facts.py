"""What is said of a loop, by its traces or by who exports them."""

from collections.abc import Mapping
from typing import Any

from loopotel_prom.errors import DocumentError
from loopotel_prom.exporter.loopnet import inference
from loopotel_prom.exporter.loopnet.options import RecordOptions
from loopotel_prom.exporter.loopnet.run import Run
from loopotel_prom.exporter.loopnet.terms import MIN_OBJECTIVE, PATTERNS
from loopotel_prom.plain import count, text


class Facts:
    """
    What the trace's metadata says, else the options, else the trace.

    Attributes:
        budget: How many iterations it might have taken; None if nobody says.
    """

    def __init__(self, run: Run, options: RecordOptions) -> None:
        self._run = run
        self._options = options
        self._said = run.metadata
        self.budget = self._count(
            "max_iterations_budget", options.max_iterations_budget
        )
        self._iterations = max(
            len(run.steps), self._count("iteration_count", None) or 0
        )
        workers = self._count("worker_count", options.worker_count)
        evaluators = self._count("evaluator_count", options.evaluator_count)
        self._workers = run.worker_count if workers is None else workers
        self._evaluators = run.evaluator_count if evaluators is None else evaluators

    @property
    def is_within_budget(self) -> bool:
        """It took fewer iterations than it might have, as far as is known."""
        return self.budget is not None and self._iterations < self.budget

    def counts(self) -> dict[str, Any]:
        """Give what the record's metadata counts."""
        return {
            "iteration_count": self._iterations,
            "worker_count": self._workers or None,
            "evaluator_count": self._evaluators or None,
            "max_iterations_budget": self.budget,
        }

    def objective(self) -> str:
        """
        Say what the run was for.

        Raises:
            DocumentError: Nobody has said.
        """
        said = self._said.get("objective")
        words = said.strip() if isinstance(said, str) else ""
        words = words if len(words) >= MIN_OBJECTIVE else self._options.objective or ""
        if not words:
            raise DocumentError(
                f"no objective: metadata.objective has none of {MIN_OBJECTIVE}"
                " characters or more; --goal says it for all such runs"
            )
        return text(words)

    def patterns(self) -> list[str]:
        """
        Say how the loop is built.

        Raises:
            DocumentError: The metadata names a pattern that there is not.
        """
        said = self._said.get("patterns")
        named = [said] if isinstance(said, str) else said
        if not isinstance(named, list) or not named:
            return list(dict.fromkeys(self._options.patterns)) or inference.patterns(
                self._run.steps,
                worker_count=self._workers,
                evaluator_count=self._evaluators,
            )
        for slug in named:
            if slug not in PATTERNS:
                raise DocumentError(
                    f"metadata.patterns: {text(slug, limit=64)!r} is no pattern"
                )
        return list(dict.fromkeys(named))

    def loop_spec(self) -> dict[str, Any] | None:
        """Give the loop's specification, if there is one."""
        said = self._said.get("loop_spec")
        found = said if isinstance(said, Mapping) else self._options.loop_spec
        return dict(found) if found else None

    def _count(self, name: str, other: int | None) -> int | None:
        """Read a count of at least 1."""
        return count(self._said.get(name)) or other
