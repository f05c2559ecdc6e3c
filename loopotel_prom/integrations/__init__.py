"""Loops of other frameworks, traced."""

from loopotel_prom.integrations.loopgym import run_traced_episode, trace_live_episode

__all__ = ["run_traced_episode", "trace_live_episode"]
