"""What the documents do not say, said by who exports them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from loopotel_prom.errors import ConfigError
from loopotel_prom.exporter.loopnet.terms import MIN_OBJECTIVE, PATTERNS

Source: TypeAlias = Literal[
    "synthetic", "case_study", "production_redacted", "community"
]
Level: TypeAlias = Literal["basic", "full"]

# Below this, a key can be found by trying.
_LEAST_KEY = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordOptions:
    """
    What a record takes where the trace's own metadata is silent.

    Attributes:
        source: None takes it from where the loop ran. `production_redacted`
            redacts.
        objective: What the loops are for, at least 10 characters.
        patterns: How they are built, of LoopNet's slugs.
        loop_spec: Their specification.
        max_iterations_budget: How many iterations each might have taken.
        worker_count: How many workers each has.
        evaluator_count: How many evaluators each has.
        missing_cost: Whether an iteration of unknown cost was free of charge, or
            leaves its run without a record.
        redact: `basic` takes out secrets, `full` all free text; None neither,
            unless the source is `production_redacted`: then it is `basic`.
        redaction_key: What the names of loops are hashed with at `full`, so that
            runs of one loop stay together; without it all are named alike.
    """

    source: Source | None = None
    objective: str | None = None
    patterns: tuple[str, ...] = ()
    loop_spec: Mapping[str, Any] | None = None
    max_iterations_budget: int | None = None
    worker_count: int | None = None
    evaluator_count: int | None = None
    missing_cost: Literal["leave", "zero"] = "leave"
    redact: Level | None = None
    redaction_key: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.objective is not None and len(self.objective) < MIN_OBJECTIVE:
            raise ConfigError(
                f"an objective has at least {MIN_OBJECTIVE} characters, this has"
                f" {len(self.objective)}: {self.objective!r}"
            )
        for pattern in self.patterns:
            if pattern not in PATTERNS:
                raise ConfigError(
                    f"{pattern!r} is no pattern of LoopNet; there are"
                    f" {', '.join(PATTERNS)}"
                )
        if self.redaction_key is not None and len(self.redaction_key) < _LEAST_KEY:
            raise ConfigError(
                f"a redaction key has at least {_LEAST_KEY} bytes, this has"
                f" {len(self.redaction_key)}"
            )
        if self.redaction_key is not None and self.redaction != "full":
            raise ConfigError("a redaction key is of no use unless all free text goes")

    @property
    def redaction(self) -> Level | None:
        """How much is taken out of records; None for nothing."""
        if self.redact is None and self.source == "production_redacted":
            return "basic"
        return self.redact
