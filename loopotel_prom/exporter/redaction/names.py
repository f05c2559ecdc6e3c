"""Names whose values are secret, whatever these look like."""

import re
from itertools import pairwise
from typing import Final

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_PARTS: Final = (
    "accesskey",
    "apikey",
    "authkey",
    "authtoken",
    "contrase",
    "credential",
    "encryptionkey",
    "kennwort",
    "mnemonic",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "passwort",
    "privatekey",
    "secret",
    "signingkey",
)
_WHOLE: Final = frozenset(
    (
        *("authorization", "auth", "bearer", "cookie", "cookies", "cred", "creds"),
        *("dsn", "jwt", "pw", "pwd"),
    )
)
_LAST: Final = frozenset(("token", "pass", "pin", "otp", "sig", "signature", "psk"))
# With `key` behind them, or what else they belong to.
_PAIRS: Final = frozenset(
    f"{word} key"
    for word in (
        *("access", "account", "api", "auth", "client", "database", "db", "deploy"),
        *("encryption", "host", "license", "master", "private", "service", "session"),
        *("shared", "signing", "ssh", "storage", "subscription", "webhook"),
    )
) | {"connection string", "session id", "webhook url", "pass phrase", "pass word"}
_PHRASES: Final = frozenset(("mnemonic", "passphrase", "phrase"))
_HEADERS: Final = frozenset(("authorization", "cookie"))
# `OPENAI_KEY`, as environments have it; but of these a key is no secret.
_PUBLIC: Final = frozenset(
    ("cache", "foreign", "hash", "index", "partition", "primary", "public", "sort")
)
# Marks in a text, as models have them: `eos_token`, `stop token`.
_MARKS: Final = frozenset(
    (
        *("bos", "cls", "end", "eos", "first", "image", "last", "mask", "next"),
        *("pad", "per", "sep", "special", "start", "stop", "unk"),
    )
)


def words_of(name: str) -> list[str]:
    """Take a name apart: ``dbPassword``, ``DB_PASSWORD`` and ``db password`` alike."""
    return [word.lower() for word in _WORD.findall(name)]


def is_secret(name: str) -> bool:
    """Tell whether a key, an option or a header of this name has a secret value."""
    # A secretary has none.
    words = [word for word in words_of(name) if not word.startswith("secretar")]
    if not words:
        return False
    if words[-1].isdigit() and len(words) > 1:
        del words[-1]  # `password2`
    # `api_key_value`, `token_env`
    while len(words) > 1 and words[-1] in {"value", "env", "header", "raw", "text"}:
        del words[-1]
    if words[-1] == "token":
        return len(words) == 1 or words[-2] not in _MARKS
    if words[-1] in _LAST or _WHOLE.intersection(words):
        return True
    last = name.rpartition(" ")[2]
    if words[-1] == "key" and len(words) > 1 and "_" in last and last.isupper():
        return words[-2] not in _PUBLIC
    pairs = {f"{one} {two}" for one, two in pairwise(words)}
    if _PAIRS & pairs:
        return True
    joined = "".join(words)
    return any(part in joined for part in _PARTS)


def takes_the_line(name: str) -> bool:
    """Tell whether its value may have blanks in it: a header, a passphrase."""
    words = words_of(name)
    return bool(words) and (words[-1] in _PHRASES or not _HEADERS.isdisjoint(words))
