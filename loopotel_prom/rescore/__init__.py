"""Documents under another goal target (``specs/rescore.md``)."""

from loopotel_prom.rescore.comparison import Comparison, Sums
from loopotel_prom.rescore.job import Rescored, RescoreJob, Targets

__all__ = ["Comparison", "RescoreJob", "Rescored", "Sums", "Targets"]
