"""Jobs over archives, in one process or in many: the same output from each."""

from loopotel_prom.engine.engine import Engine, open_engine
from loopotel_prom.engine.faults import Rejected
from loopotel_prom.engine.places import (
    open_object,
    place_of,
    read_places,
    total_bytes,
)
from loopotel_prom.engine.plan import Place
from loopotel_prom.engine.run import Done, run

__all__ = [
    "Done",
    "Engine",
    "Place",
    "Rejected",
    "open_engine",
    "open_object",
    "place_of",
    "read_places",
    "run",
    "total_bytes",
]
