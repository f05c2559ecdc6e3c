"""
The errors of the package.

::

    LoopotelError
    ├── ConfigError (ValueError)        a setting that cannot work
    ├── DocumentError (ValueError)      bytes or values that are no LTF document
    ├── ArchiveError (OSError)          an archive that cannot be read or written
    ├── DeliveryError (OSError)         metrics or spans that could not be handed over
    └── MissingExtraError (ImportError) an optional part that is not installed

Configuration, storage and commands raise them. Instrumentation never does: it
counts what went wrong and lets the loop go on. Each can be pickled: a job's error
crosses from its process to ours.
"""

from functools import partial
from typing import Any


class LoopotelError(Exception):
    """The root of every error that this package raises on purpose."""


class ConfigError(LoopotelError, ValueError):
    """A setting cannot work: the message names it, its value and what would."""


class DocumentError(LoopotelError, ValueError):
    """
    Bytes are no JSON document, or a value cannot become one.

    Attributes:
        offset: Byte offset of the fault within the document, where known.
    """

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class ArchiveError(LoopotelError, OSError):
    """
    An archive could not be read or written.

    Attributes:
        path: The file or folder concerned.
        hint: What to do next, one sentence.
        errno: The system's number for the cause; None where it has none.
    """

    def __init__(
        self, message: str, *, path: str, hint: str, errno: int | None = None
    ) -> None:
        super().__init__(f"{path}: {message}; {hint}")
        self.errno = errno
        self.path = path
        self.hint = hint
        self._message = message

    def __reduce__(self) -> tuple[Any, ...]:
        again = partial(
            type(self),
            self._message,
            path=self.path,
            hint=self.hint,
            errno=self.errno,
        )
        return again, ()


class DeliveryError(LoopotelError, OSError):
    """Metrics could not be written to a file or pushed to a gateway, or spans sent."""


class MissingExtraError(LoopotelError, ImportError):
    """
    An optional dependency is not installed.

    Attributes:
        extra: The extra that brings it, where it can be installed at all.
    """

    def __init__(
        self, what: str, *, extra: str, reason: str = "", hint: str = ""
    ) -> None:
        because = f" ({reason})" if reason else ""
        hint = hint or f"install loopotel-prom[{extra}]{because}"
        super().__init__(f"{what} is not installed; {hint}")
        self.extra = extra
        self._what = what
        self._hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        again = partial(type(self), self._what, extra=self.extra, hint=self._hint)
        return again, ()
