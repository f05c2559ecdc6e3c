"""
The metrics: live state of the loops, and its exposition.

Spans come in through `MetricsProcessor`; what a scrape sees goes out as an
immutable snapshot. Importing this registers nothing.
"""

from loopotel_prom.metrics.processor import MetricsProcessor

__all__ = ["MetricsProcessor"]
