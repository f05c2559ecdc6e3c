"""Ways out of a trace: JSON lines, LoopNet trajectories, OTLP."""

from loopotel_prom.exporter.jsonl import JsonlExporter
from loopotel_prom.exporter.loopnet import trajectory_from_trace

__all__ = ["JsonlExporter", "trajectory_from_trace"]
