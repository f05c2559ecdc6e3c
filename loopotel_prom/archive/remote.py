"""
Archives at URLs: what `fsspec` reaches, such as ``s3://bucket/traces``.

An object is read by ranges, and is one thing from plan to end: whoever puts
another in its place meanwhile is noticed. Nothing here is cached.
"""

import errno
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from loopotel_prom.archive.layout import SEALED, rotated_names
from loopotel_prom.errors import (
    ArchiveError,
    ConfigError,
    LoopotelError,
    MissingExtraError,
)

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(://|::)")
# What stores call the mark of an object's content; of its time.
_CONTENT = ("ETag", "etag", "md5Hash")
_TIME = ("mtime", "created", "LastModified")
# HTTP's own.
_ABSENT = (404, 410)
# A request costs some ten milliseconds wherever the store is.
_PIECE_BYTES = 4 * 1024**2
# The rest of most lines.
_REST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """
    One object.

    Attributes:
        url: Where it is.
        size: In bytes.
        mark: Tells it from another that takes its place.
    """

    url: str
    size: int
    mark: str


class RemoteFile:
    """
    One object, read at any place of it.

    Args:
        url: Where it is.
        end: Where reading is to end, or within a line of it; a hint.

    Raises:
        ArchiveError: It cannot be reached.
    """

    def __init__(self, url: str, end: int) -> None:
        self.url = url
        self._end = end
        self._store, self._path = open_store(url)
        self._at = 0
        self._piece = b""

    def read_at(self, offset: int, size: int) -> bytes:
        """
        Read at most `size` bytes; none at the end alone.

        Raises:
            ArchiveError: Reading failed.
        """
        if not self._at <= offset < self._at + len(self._piece):
            with told(self.url):
                end = offset + max(size, self._ahead(offset))
                self._piece = self._store.cat_file(self._path, start=offset, end=end)
            self._at = offset
        begin = offset - self._at
        return self._piece[begin : begin + size]

    def _ahead(self, offset: int) -> int:
        """Tell how much to ask for: no crumbs, and little that nobody needs."""
        left = self._end - offset
        if left > _PIECE_BYTES + _REST_BYTES:
            return _PIECE_BYTES
        return max(left, 0) + _REST_BYTES


class _Told(io.RawIOBase):
    """An object being written; its store's errors say where they were."""

    def __init__(self, url: str, file: Any) -> None:
        self._url = url
        self._file = file

    def writable(self) -> bool:
        """Say that it can be written."""
        return True

    def write(self, data: Any, /) -> int:
        """Write all of it."""
        with told(self._url):
            return int(self._file.write(data))


def is_url(place: str) -> bool:
    """Tell a URL from a path."""
    return _URL.match(place) is not None


def open_store(url: str, **options: bool) -> tuple[Any, str]:
    """
    Give the file system of a URL, and the path in it; `options` are fsspec's.

    Raises:
        MissingExtraError: What reaches it is not installed.
        ConfigError: Nothing is known that reaches it.
        ArchiveError: It cannot be reached.
    """
    what = f"what reads and writes {url.partition('/')[0]} URLs"
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError(what, extra="object-store") from error
    try:
        with told(url, ImportError, ValueError):
            store, path = url_to_fs(url, **options)
    except ImportError as error:
        reason = str(error)
        raise MissingExtraError(what, extra="object-store", reason=reason) from error
    except ValueError as error:
        raise ConfigError(f"{url}: {error}; check the URL") from error
    return store, path


def find(url: str) -> Found | None:
    """
    Ask for one object; None for a folder.

    Raises:
        ArchiveError: There is nothing, or it cannot be reached.
    """
    store, path = open_store(url)
    with told(url):
        # Others may have written since it was last listed.
        store.invalidate_cache()
        about = store.info(path)
    return None if about["type"] == "directory" else _found(url, about)


def list_folder(url: str) -> list[Found]:
    """
    List an archive's sealed files, in the order in which they are read.

    Raises:
        ArchiveError: It cannot be listed.
    """
    store, path = open_store(url)
    with told(url):
        listed = store.ls(path, detail=True)
        files = {
            about["name"].rpartition("/")[2]: about
            for about in listed
            if about["type"] == "file"
        }
        names = [*rotated_names(files), *({SEALED} & files.keys())]
        folder = url.rstrip("/")
        found = []
        for name in names:
            about = files[name]
            if not _mark(about, _CONTENT):
                # A listing may spell a time in another way.
                about = store.info(about["name"])
            found.append(_found(f"{folder}/{name}", about))
        return found


@contextmanager
def new_object(url: str) -> Iterator[BinaryIO]:
    """
    Write an object, which appears when the block ends well, or not at all.

    Raises:
        MissingExtraError: What reaches the URL is not installed.
        ConfigError: Nothing is known that reaches it.
        ArchiveError: Writing failed.
    """
    # A transaction belongs to its file system: one that nobody else has.
    store, path = open_store(url, skip_instance_cache=True)
    with told(url):
        store.start_transaction()
        file = store.open(path, "wb")
    try:
        yield cast("BinaryIO", _Told(url, file))
        with told(url):
            file.close()
            store.end_transaction()
    except BaseException:
        # The first error is the one to tell. What is left open would be closed as
        # garbage, and so begin an upload.
        with suppress(Exception):
            file.close()
        with suppress(Exception):
            store.transaction.complete(commit=False)
        raise


@contextmanager
def told(url: str, *passing: type[Exception]) -> Iterator[None]:
    """
    Say of an error of a store where it was; some may pass as they are.

    Raises:
        ArchiveError: There was one.
    """
    as_they_are: tuple[type[Exception], ...] = (LoopotelError, *passing)
    try:
        yield
    except as_they_are:
        raise
    except Exception as error:  # each store has errors of its own
        fault = _fault(url, error)
        if isinstance(fault, FileNotFoundError):
            raise ArchiveError(
                "there is nothing", path=url, hint="check the URL", errno=errno.ENOENT
            ) from error
        reason = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
        if getattr(fault, "errno", None) == errno.ECONNREFUSED:
            reason = os.strerror(errno.ECONNREFUSED)
        reason = " ".join(reason.split())
        hint = "check the URL, the credentials and the network"
        raise ArchiveError(reason, path=url, hint=hint) from error


def _fault(url: str, error: Exception) -> Exception:
    """Tell what was wrong: of all that fails by HTTP, fsspec says it is not there."""
    cause = error.__cause__
    if not (isinstance(error, FileNotFoundError) and url.startswith("http")):
        return error
    is_there = getattr(cause, "status", None) not in _ABSENT
    return cause if is_there and isinstance(cause, Exception) else error


def _found(url: str, about: dict[str, Any]) -> Found:
    return Found(url, int(about["size"]), _mark(about, _CONTENT + _TIME))


def _mark(about: dict[str, Any], names: tuple[str, ...]) -> str:
    return next((str(about[name]) for name in names if about.get(name)), "")
