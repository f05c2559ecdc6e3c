"""The job that gives the rows of a document."""

from dataclasses import dataclass
from itertools import chain, islice

from loopotel_prom.archive.reader import Entry
from loopotel_prom.exporter.parquet.columns import ITERATIONS
from loopotel_prom.exporter.parquet.rows import Row, RunRows
from loopotel_prom.exporter.parquet.table import BATCH_ROWS, packed


@dataclass(frozen=True, slots=True)
class Rows:
    """
    What a document becomes.

    Attributes:
        run: Its row in the table of runs.
        iterations: Its rows in the other, if they are few.
        packed: Else those, packed; small beside the document.
        count: How many there are.
    """

    run: Row
    iterations: tuple[Row, ...]
    packed: bytes
    count: int


@dataclass(frozen=True, slots=True)
class RowsJob:
    """Makes the rows of a document, in constant memory but for what it gives."""

    def __call__(self, entry: Entry) -> Rows:
        """
        Make them.

        Raises:
            DocumentError: There is no document, or one of another format.
            ArchiveError: Reading failed.
        """
        rows = RunRows(entry)
        iterations = rows.iterations()
        first = tuple(islice(iterations, BATCH_ROWS))
        if len(first) < BATCH_ROWS:
            return Rows(rows.run(), first, b"", rows.count)
        data = packed(chain(first, iterations), ITERATIONS)
        return Rows(rows.run(), (), data, rows.count)
