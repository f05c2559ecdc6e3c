"""Credentials: read from files, as a command line can be read by others."""

import base64
from dataclasses import dataclass, field
from pathlib import Path

from loopotel_prom.errors import ConfigError

# Far more than any; what is larger is another file.
_MOST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Credentials:
    """
    Who asks.

    Attributes:
        header: Value of the header `Authorization`; empty for none.
        user: The user's name, where there is one.
    """

    header: str = field(default="", repr=False)
    user: str = ""


def bearer(path: Path) -> Credentials:
    """
    Read a token.

    Raises:
        ConfigError: The file cannot be read, or there is no token in it.
    """
    return Credentials(f"Bearer {_line(path, 'a token')}")


def basic(path: Path) -> Credentials:
    """
    Read `USER:PASSWORD`.

    Raises:
        ConfigError: The file cannot be read, or has something else in it.
    """
    line = _line(path, "USER:PASSWORD")
    user, colon, _ = line.partition(":")
    if not colon:
        raise ConfigError(f"{path}: it has no colon; write USER:PASSWORD into it")
    return Credentials(f"Basic {base64.b64encode(line.encode()).decode()}", user)


def _line(path: Path, what: str) -> str:
    try:
        with path.open("rb") as file:
            line = file.read(_MOST_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(f"{path}: {reason}; write {what} into it") from error
    if not line or not line.isprintable():
        raise ConfigError(f"{path}: it is not one line; write {what} into it")
    return line
