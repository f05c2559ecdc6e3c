"""Secrets found in text and in JSON, and taken out (``specs/loopnet.md``)."""

from loopotel_prom.exporter.redaction.scanner import MARK, Scanner
from loopotel_prom.exporter.redaction.tree import Removed, redacted

__all__ = ["MARK", "Removed", "Scanner", "redacted"]
