"""
A Starlette app that shows its loops at /loops, beside its own pages.

Run: ``uvicorn examples.starlette_app:app`` and look at
http://127.0.0.1:8000/loops/metrics after a visit to /solve.
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

import loopotel_prom
from loopotel_prom.web import asgi_app

# No endpoint of its own: the server of this app does that.
loopotel_prom.configure(listen=None)


async def solve(_request: Request) -> JSONResponse:
    """Run a loop for a request."""
    async with loopotel_prom.LoopTracer("solver", goal_target=0.8) as run:
        for iteration, score in enumerate((0.4, 0.7, 0.9), 1):
            run.emit_iteration(iteration=iteration, goal_score=score, tokens_delta=120)
        run.finish(outcome="success", termination_reason="goal_met")
    return JSONResponse({"goal_score": score})


app = Starlette(routes=[Route("/solve", solve), Mount("/loops", asgi_app())])
