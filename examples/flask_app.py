"""
A Flask app that shows its loops at /loops, beside its own pages.

Run: ``flask --app examples/flask_app.py run`` and look at
http://127.0.0.1:5000/loops/metrics after a visit to /solve.
"""

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import loopotel_prom
from loopotel_prom.web import wsgi_app

# No endpoint of its own: Flask's server does that.
loopotel_prom.configure(listen=None)

app = Flask(__name__)
app.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]  # as Flask has it
    app.wsgi_app, {"/loops": wsgi_app()}
)


@app.get("/solve")
def solve() -> dict[str, float]:
    """Run a loop for a request."""
    with loopotel_prom.LoopTracer("solver", goal_target=0.8) as run:
        for iteration, score in enumerate((0.4, 0.7, 0.9), 1):
            run.emit_iteration(iteration=iteration, goal_score=score, tokens_delta=120)
        run.finish(outcome="success", termination_reason="goal_met")
    return {"goal_score": score}
