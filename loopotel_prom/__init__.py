"""
Prometheus and Grafana exporter for LLM-agent loops.

`configure` says once where loops can be seen; `LoopTracer` traces a run of one;
each iteration shows on ``/metrics`` at once, and the finished run becomes an LTF
0.1 document. Importing this starts nothing and registers nothing.
"""

from loopotel_prom.configuration import configure
from loopotel_prom.handle import Configuration
from loopotel_prom.tracer import (
    LoopTracer,
    current_tracer,
    emit_iteration,
    trace_loop,
)
from loopotel_prom.version import __version__

__all__ = [
    "Configuration",
    "LoopTracer",
    "__version__",
    "configure",
    "current_tracer",
    "emit_iteration",
    "trace_loop",
]
