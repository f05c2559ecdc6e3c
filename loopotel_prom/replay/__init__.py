"""
The replay: the metrics that the runs of an archive had, at their own times.

Documents become events in the order of their times, a metrics processor with a
virtual clock takes these, and what a scrape would have shown comes out as points
(`specs/backfill.md`).
"""

from loopotel_prom.replay.history import history
from loopotel_prom.replay.options import DEFAULT_LABELS, HistoryOptions
from loopotel_prom.replay.pace import Pace
from loopotel_prom.replay.player import Player
from loopotel_prom.replay.points import STALE, Instant, Series, is_stale
from loopotel_prom.replay.timeline import Timeline

__all__ = [
    "DEFAULT_LABELS",
    "STALE",
    "HistoryOptions",
    "Instant",
    "Pace",
    "Player",
    "Series",
    "Timeline",
    "history",
    "is_stale",
]
