"""Archives as Parquet tables of runs and iterations (``specs/parquet.md``)."""

from loopotel_prom.exporter.parquet.columns import ITERATIONS, RUNS
from loopotel_prom.exporter.parquet.job import Rows, RowsJob
from loopotel_prom.exporter.parquet.table import TableWriter, require_pyarrow

__all__ = [
    "ITERATIONS",
    "RUNS",
    "Rows",
    "RowsJob",
    "TableWriter",
    "require_pyarrow",
]
