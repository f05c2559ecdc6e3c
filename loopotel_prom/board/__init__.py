"""The board: what is known of the runs of the moment, kept small in memory."""

from loopotel_prom.board.processor import BoardProcessor
from loopotel_prom.board.view import Overview, RunDetail, RunSummary

__all__ = ["BoardProcessor", "Overview", "RunDetail", "RunSummary"]
