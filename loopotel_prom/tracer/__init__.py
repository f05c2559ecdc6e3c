"""
The tracer: what an instrumented loop talks to.

It turns calls into spans and hands them to a pipeline. It never raises into the
loop for a bad value, never waits for a network, and keeps no more than the
spans of its own run.
"""

from loopotel_prom.tracer.clock import Clock
from loopotel_prom.tracer.context import current_tracer, emit_iteration
from loopotel_prom.tracer.decorator import trace_loop
from loopotel_prom.tracer.ids import IdSource, RandomIds
from loopotel_prom.tracer.run import LoopTracer

__all__ = [
    "Clock",
    "IdSource",
    "LoopTracer",
    "RandomIds",
    "current_tracer",
    "emit_iteration",
    "trace_loop",
]
