"""
LTF 0.1, the Loop Trace Format: documents from spans, and spans from documents.

`fold` is the one way in which a document comes to be, for a live run as for
one read back; `unfold` is its inverse. `encode` and `decode` are the bytes;
`stream` is both steps at once for a run that is longer than memory.
"""

from loopotel_prom.ltf.codec import Document, check_version, decode, encode
from loopotel_prom.ltf.fold import fold
from loopotel_prom.ltf.stream import stream
from loopotel_prom.ltf.unfold import unfold

__all__ = ["Document", "check_version", "decode", "encode", "fold", "stream", "unfold"]
