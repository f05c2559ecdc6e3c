"""
A gunicorn app of four workers, whose loops are on one page.

Run::

    loopotel-prom serve --archive traces &
    gunicorn --workers 4 --chdir examples gunicorn_app:app

and look at http://127.0.0.1:10110/metrics after some visits to
http://127.0.0.1:8000/. A worker that is killed loses nothing: its journal is read to
its end, and its run ends as abandoned.
"""

import json
import os
from collections.abc import Callable, Iterable

import loopotel_prom

# In each worker, after the fork or before: both work. The sidecar has the page.
loopotel_prom.configure(listen=None, archive=os.environ.get("ARCHIVE", "traces"))


def solve() -> int:
    """Do an agent's work; give how many iterations it took."""
    with loopotel_prom.LoopTracer("solver", env_id="web", goal_target=0.8) as run:
        for iteration, score in enumerate((0.4, 0.7, 0.9), 1):
            run.emit_iteration(iteration=iteration, goal_score=score, tokens_delta=120)
        run.finish(outcome="success", termination_reason="goal_met")
    return iteration


def app(
    _environ: dict[str, object],
    start_response: Callable[[str, list[tuple[str, str]]], object],
) -> Iterable[bytes]:
    """Answer each request with the work of a loop."""
    body = json.dumps({"pid": os.getpid(), "iterations": solve()}).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]
