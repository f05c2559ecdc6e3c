"""A document too long to be held: compressed while it is written, in its own file."""

import errno
import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

from loopotel_prom.archive import failpoint, layout
from loopotel_prom.archive.folders import make_folder, sync_folder
from loopotel_prom.zstandard import zstd

# Someone waits for it: a tenth larger than at 3, in half the time.
LEVEL = -1

_OPTIONS: dict[int, int] = {
    zstd.CompressionParameter.compression_level: LEVEL,
    zstd.CompressionParameter.checksum_flag: 1,
}
_CHUNK_BYTES = 1024 * 1024
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# A frame that every reader of zstd passes over: what it is, and how long.
_SKIPPED = b"\x50\x2a\x4d\x18"
_SKIPPED_HEAD_BYTES = 8


def write_document(folder: Path, pieces: Iterable[bytes]) -> None:
    """
    Write one document, complete and on disk when its file has a name.

    Memory stays constant. A crash leaves nothing of that name.

    Raises:
        OSError: It failed, or what was read back differs; nothing is left.
        Exception: What the pieces raised; likewise.
    """
    document = LongDocument(folder)
    try:
        for piece in pieces:
            document.add(piece)
        document.finish()
    except BaseException:
        document.drop()
        raise


class LongDocument:
    """
    A new `traces-….jsonl.zst`, without that name until it is finished.

    Ended by `finish` or by `drop`, once.

    Args:
        folder: The archive's; made if need be.
        room_bytes: Kept free for a beginning that is known last.

    Attributes:
        size_bytes: Of the document so far.

    Raises:
        OSError: It cannot be made; as `add` and `finish`.
    """

    def __init__(self, folder: Path, *, room_bytes: int = 0) -> None:
        make_folder(folder)
        self.size_bytes = 0
        self._room_bytes = room_bytes
        name = layout.rotated_name() + layout.COMPRESSED
        self._path = folder / name
        self._unfinished = folder / (name + layout.UNFINISHED)
        descriptor = os.open(self._unfinished, _NEW, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._compressor = zstd.ZstdCompressor(options=_OPTIONS)
        # Recovery removes what is unfinished and not locked.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._file.seek(room_bytes)

    def add(self, piece: bytes) -> None:
        """Add what comes next."""
        self.size_bytes += len(piece)
        self._file.write(self._compressor.compress(piece))
        failpoint.reach("long.half")

    def begin_with(self, head: bytes) -> bool:
        """Put the beginning into the room that was kept; False if it has none."""
        frame = zstd.compress(head, options=_OPTIONS)
        rest = self._room_bytes - len(frame) - _SKIPPED_HEAD_BYTES
        if rest < 0:
            return False
        frame += _SKIPPED + rest.to_bytes(4, "little") + bytes(rest)
        os.pwrite(self._file.fileno(), frame, 0)
        self.size_bytes += len(head)
        return True

    def finish(self) -> None:
        """End the line; bring it to the disk, read it back, and name it."""
        self.add(b"\n")
        self._file.write(self._compressor.flush())
        self._file.flush()
        os.fsync(self._file.fileno())
        failpoint.reach("long.written")
        self._verify()
        failpoint.reach("long.verified")
        self._unfinished.rename(self._path)
        self._file.close()
        failpoint.reach("long.renamed")
        sync_folder(self._path.parent)

    def drop(self) -> None:
        """Leave nothing of it, unless it has its name."""
        self._unfinished.unlink(missing_ok=True)
        try:
            self._file.close()
        except OSError:
            # What the disk did not take of it is not wanted any more.
            return

    def _verify(self) -> None:
        """Read it back: each frame has a checksum of what was given."""
        size = 0
        try:
            with zstd.open(self._unfinished, "rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    size += len(chunk)
        except (EOFError, zstd.ZstdError) as error:
            fault = f"the document, read back, is damaged: {error}"
            raise OSError(errno.EIO, fault) from error
        if size != self.size_bytes:
            raise OSError(errno.EIO, "the document, read back, differs")
