"""Rows to Arrow, and Arrow to Parquet; what needs pyarrow."""

import io
from collections.abc import Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

from loopotel_prom.errors import MissingExtraError
from loopotel_prom.exporter.parquet.columns import Columns
from loopotel_prom.exporter.parquet.rows import Row

ROW_GROUP_ROWS: Final = 65_536
# What is in memory of a long document. Fewer rows cost more to pack than they weigh.
BATCH_ROWS: Final = 8192


def require_pyarrow() -> None:
    """
    Check that what writes Parquet is there.

    Raises:
        MissingExtraError: It is not.
    """
    try:
        import pyarrow.parquet  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        reason = str(error)
        raise MissingExtraError("pyarrow", extra="parquet", reason=reason) from error


def arrow_schema(columns: Columns) -> Any:
    """Give the Arrow schema of some columns."""
    import pyarrow as pa  # noqa: PLC0415 - an extra

    types = {
        "text": pa.string(),
        "time": pa.timestamp("ns", tz="UTC"),
        "real": pa.float64(),
        "count": pa.int64(),
        "truth": pa.bool_(),
        "texts": pa.list_(pa.string()),
    }
    return pa.schema([(name, types[kind]) for name, kind in columns.items()])


def packed(rows: Iterator[Row], columns: Columns) -> bytes:
    """Pack rows to be handed over, reading them as they are packed."""
    import pyarrow as pa  # noqa: PLC0415 - an extra

    schema = arrow_schema(columns)
    buffer = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(buffer, schema, options=options) as stream:
        while batch := [*islice(rows, BATCH_ROWS)]:
            stream.write_batch(_batch(batch, schema))
    return buffer.getvalue()


def _unpacked(data: bytes) -> Iterator[Any]:
    """Give the record batches that were packed, one at a time."""
    import pyarrow as pa  # noqa: PLC0415 - an extra

    with pa.ipc.open_stream(data) as stream:
        yield from stream


class TableWriter:
    """
    Writes one Parquet file in row groups of one size; a context manager.

    Not thread-safe. Memory is that of two row groups.

    Args:
        file: Where to; stays its owner's.
        columns: What it has.
    """

    def __init__(self, file: BinaryIO, columns: Columns) -> None:
        import pyarrow.parquet as pq  # noqa: PLC0415 - an extra

        self._schema = arrow_schema(columns)
        texts = [name for name, kind in columns.items() if kind == "text"]
        lists = [
            f"{name}.list.element" for name, kind in columns.items() if kind == "texts"
        ]
        self._writer = pq.ParquetWriter(
            file,
            self._schema,
            version="2.6",
            compression="zstd",
            use_dictionary=texts + lists,
        )
        self._loose: list[Row] = []
        self._waiting: list[Any] = []
        self._rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._gather()
            if self._rows:
                self._write(self._rows)
        self._writer.close()

    def add_rows(self, rows: Iterable[Row]) -> None:
        """Add rows."""
        self._loose.extend(rows)
        if len(self._loose) >= BATCH_ROWS:
            self._gather()

    def add_packed(self, data: bytes) -> None:
        """Add rows that were packed."""
        self._gather()
        for batch in _unpacked(data):
            self._add(batch)

    def _gather(self) -> None:
        if self._loose:
            self._add(_batch(self._loose, self._schema))
            self._loose = []

    def _add(self, batch: Any) -> None:
        self._waiting.append(batch)
        self._rows += batch.num_rows
        while self._rows >= ROW_GROUP_ROWS:
            self._write(ROW_GROUP_ROWS)

    def _write(self, rows: int) -> None:
        import pyarrow as pa  # noqa: PLC0415 - an extra

        # Whole columns: bytes must not depend on how the rows came.
        table = pa.Table.from_batches(self._waiting, self._schema)
        self._writer.write_table(table[:rows].combine_chunks(), row_group_size=rows)
        self._waiting = table[rows:].to_batches()
        self._rows -= rows


def _batch(rows: list[Row], schema: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - an extra

    columns = zip(*rows, strict=True)
    arrays = [
        pa.array(column, type=field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
