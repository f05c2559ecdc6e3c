"""URLs of receivers: which can work, and what may be shown of them."""

import re
from urllib.parse import urlsplit, urlunsplit

from loopotel_prom.errors import ConfigError

# Names, also of other scripts, and addresses.
_HOST = re.compile(r"(?:[\w-]{1,63}\.)*[\w-]{1,63}\.?|[0-9a-f:.]*:[0-9a-f:.%\w]*")

EXAMPLE = "http://127.0.0.1:9090/api/v1/write"


def check_url(url: str) -> None:
    """
    Look whether a receiver can be there.

    Raises:
        ConfigError: It is no URL for that, or has credentials in it.
    """
    # Also of what is no URL otherwise: an error is shown, and kept in logs.
    if "@" in url.partition("?")[0]:
        raise ConfigError(
            "--url: it has credentials in it, which others could read; put them into a"
            " file, and name it by --basic-auth-file"
        )
    try:
        parts = urlsplit(url)
        is_good = (
            parts.scheme in {"http", "https"}
            and parts.port != 0
            and url.isprintable()
            and _HOST.fullmatch(parts.hostname or "") is not None
        )
    except ValueError:
        is_good = False
    if not is_good:
        raise ConfigError(
            f"--url {url}: it is no http or https URL; give the whole address, such as"
            f" {EXAMPLE}"
        )


def shown_url(url: str) -> str:
    """Leave out what may be a secret: a query, and a user with a password."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
