"""The sidecar: follows an archive that many processes write, and counts it once."""

from loopotel_prom.sidecar.checkpoint import CheckpointFile
from loopotel_prom.sidecar.sidecar import Sidecar

__all__ = ["CheckpointFile", "Sidecar"]
