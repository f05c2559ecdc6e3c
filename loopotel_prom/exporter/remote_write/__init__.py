"""Remote write 1.0: the history of an archive, sent (``specs/remote-write.md``)."""

from loopotel_prom.exporter.remote_write.credentials import Credentials, basic, bearer
from loopotel_prom.exporter.remote_write.message import Encoder, encode_metadata
from loopotel_prom.exporter.remote_write.position import (
    Position,
    PositionFile,
    beginning,
)
from loopotel_prom.exporter.remote_write.receiver import (
    Address,
    Answer,
    HttpReceiver,
    Receiver,
    snappy,
)
from loopotel_prom.exporter.remote_write.sender import Sender
from loopotel_prom.exporter.remote_write.transfer import (
    BATCH_SAMPLES,
    Transferred,
    transfer,
)
from loopotel_prom.exporter.remote_write.url import EXAMPLE, shown_url

__all__ = [
    "BATCH_SAMPLES",
    "EXAMPLE",
    "Address",
    "Answer",
    "Credentials",
    "Encoder",
    "HttpReceiver",
    "Position",
    "PositionFile",
    "Receiver",
    "Sender",
    "Transferred",
    "basic",
    "bearer",
    "beginning",
    "encode_metadata",
    "shown_url",
    "snappy",
    "transfer",
]
