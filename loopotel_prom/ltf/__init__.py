"""
LTF 0.1, the Loop Trace Format: documents from spans, and spans from documents.

`fold` is the one way in which a document comes to be, for a live run as for
one read back; `unfold` is its inverse. `encode` and `decode` are the bytes;
`stream` is both steps at once for a run that is longer than memory; `inside` and
`around` are its parts, for one that has not ended.
"""

from loopotel_prom.ltf.codec import Document, check_version, decode, encode
from loopotel_prom.ltf.fold import fold
from loopotel_prom.ltf.stream import around, inside, stream
from loopotel_prom.ltf.unfold import unfold

__all__ = [
    "Document",
    "around",
    "check_version",
    "decode",
    "encode",
    "fold",
    "inside",
    "stream",
    "unfold",
]
