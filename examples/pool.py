"""
A pool of eight processes, whose loops are on one page.

Run ``loopotel-prom serve --archive traces`` beside ``python examples/pool.py`` and look
at http://127.0.0.1:10110/metrics.
"""

import multiprocessing
import os

import loopotel_prom

_TASKS = 40


def begin() -> None:
    """Set a process of the pool up: it has a journal of its own, and no port."""
    loopotel_prom.configure(listen=None, archive=os.environ.get("ARCHIVE", "traces"))


def solve(task: int) -> int:
    """Do an agent's work on one task; give how many tokens it took."""
    with loopotel_prom.LoopTracer(
        "pool", env_id="batch", task_id=f"task-{task}", goal_target=0.8
    ) as run:
        for iteration, score in enumerate((0.3, 0.6, 0.85), 1):
            run.emit_iteration(iteration=iteration, goal_score=score, tokens_delta=task)
        run.finish(outcome="success", termination_reason="goal_met")
    return 3 * task


if __name__ == "__main__":
    # Whatever the start method is.
    with multiprocessing.Pool(8, initializer=begin) as pool:
        tokens = sum(pool.imap_unordered(solve, range(_TASKS)))
    print(f"{_TASKS} tasks, {tokens} tokens")  # noqa: T201 - a program's result
