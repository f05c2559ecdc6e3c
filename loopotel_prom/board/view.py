"""What the board tells of runs: plain values, for pages, JSON and terminals."""

from msgspec import Struct, field

from loopotel_prom.runs.course import Happening, Step


class Points(Struct, frozen=True):
    """
    The course of a run, column by column; None for what was not reported.

    Attributes:
        iterations: How many iterations there were up to each point.
        low: The lowest goal score of those that a point stands for.
        high: The highest.
        last: The latest.
        les: The cumulative LES, 0 to 1.
        tokens: The tokens so far.
    """

    iterations: list[int] = []
    low: list[float | None] = []
    high: list[float | None] = []
    last: list[float | None] = []
    les: list[float | None] = []
    tokens: list[float] = []


class RunSummary(Struct, frozen=True, kw_only=True):
    """
    A run in short; None for what is not known.

    Attributes:
        trace_id: The run.
        loop_name: Its loop.
        env_id: Where it runs.
        task_id: What it works on.
        parent: The trace id of the run that it is nested in.
        outcome: One of the format's four once it has ended, `open` before.
        reason: Why it ended.
        started_ns: Unix nanoseconds.
        latest_ns: When the latest iteration ended, or the run, or began.
        iterations: How many there were.
        goal_score: The latest that was reported.
        goal_target: What it should reach.
        best_score: The highest so far.
        slope: How much the score rises with each iteration, of late.
        les: The latest cumulative LES, 0 to 1.
        tokens: In total.
        cost_usd: In total.
        tokens_per_minute: From its start to its latest iteration.
        mark: How it goes, in a word (`judgement`); empty if nothing is to be said.
        points: Its course, coarse.
    """

    trace_id: str
    loop_name: str = ""
    env_id: str | None = None
    task_id: str | None = None
    parent: str | None = None
    outcome: str = "open"
    reason: str = ""
    started_ns: int | None = None
    latest_ns: int | None = None
    iterations: int = 0
    goal_score: float | None = None
    goal_target: float | None = None
    best_score: float | None = None
    slope: float | None = None
    les: float | None = None
    tokens: int = 0
    cost_usd: float | None = None
    tokens_per_minute: float | None = None
    mark: str = ""
    points: Points = Points()

    @property
    def is_open(self) -> bool:
        """Tell whether it has not ended yet."""
        return self.outcome == "open"


class Caller(Struct, kw_only=True):
    """
    A worker or an evaluator of a run, and what it did in all.

    Attributes:
        kind: `worker` or `evaluator`.
        name: Its id.
        role: What it is for: a worker's role, an evaluator's type.
        calls: How often it was called.
        seconds: How long that took in all; None if it was not measured.
        tokens: What it used, input and output; None if it was not reported.
        cost_usd: What it cost; None if it was not reported.
        score: The latest score that it gave.
    """

    kind: str
    name: str
    role: str = ""
    calls: int = 0
    seconds: float | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    score: float | None = None


class RunDetail(Struct, frozen=True, kw_only=True):
    """
    A run at length, but bounded.

    Attributes:
        summary: The run in short.
        first: Its first iterations.
        last: Its latest ones, none of them in `first`.
        left_out: How many lie between those.
        happenings: What happened, the latest.
        happenings_left_out: How many came before those.
        callers: Its workers and evaluators.
        source: Where it was read: `memory`, `journal` or `archive`.
        notes: What a reader has to know about it.
    """

    summary: RunSummary
    first: list[Step] = []
    last: list[Step] = []
    left_out: int = 0
    happenings: list[Happening] = []
    happenings_left_out: int = 0
    callers: list[Caller] = []
    source: str = "memory"
    notes: list[str] = []


class Totals(Struct, kw_only=True):
    """
    What has been seen since the board began.

    Attributes:
        started: Runs that started.
        finished: Runs that ended, by outcome.
        iterations: Of all runs.
        tokens: Of all runs.
        cost_usd: Of all runs.
    """

    started: int = 0
    finished: dict[str, int] = {}
    iterations: int = 0
    tokens: int = 0
    cost_usd: float = 0.0


class Overview(Struct, frozen=True, kw_only=True):
    """
    The board at one moment.

    Attributes:
        now_ns: That moment, Unix nanoseconds.
        active: The runs under way, the worst first.
        recent: The latest runs that have ended, the newest first.
        totals: Sums over all runs, those that are not shown too.
        unshown: Runs under way that had to be left out.
    """

    now_ns: int
    active: list[RunSummary] = []
    recent: list[RunSummary] = []
    totals: Totals = field(default_factory=Totals)
    unshown: int = 0
