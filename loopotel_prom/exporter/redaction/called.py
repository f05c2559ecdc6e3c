"""What a text calls a secret: ``password: x``, ``"api_key": "x"``, ``--token x``."""

import re
from collections.abc import Iterator

from loopotel_prom.exporter.redaction.names import is_secret, takes_the_line

# Each secret name has one of these in it; looking at names alone is ten times as slow.
_STEM = re.compile(
    r"pass|pwd|contrase|kennwort|secret|token|key|cred|auth|cookie|bearer|dsn|jwt|otp|psk|mnemonic"
    r"|phrase|connection|session|webhook|signature|\bsig\b|\bpin\b|\bpw\b",
    re.IGNORECASE,
)
_REST = re.compile(
    r"[\w.-]{0,63}(?: (?:id|key|phrase|string|token|url|word)\b)?", re.IGNORECASE
)
_BEFORE_CHARACTERS = 64
_NAME = re.compile(
    r"(?:[A-Za-z][\w-]* )?-{0,2}[A-Za-z][\w.-]*(?: [a-z]+)?\Z", re.IGNORECASE
)
_FOR = r"(?:\s+(?:for|of|on|in|at)(?:\s+[\w./@-]{1,40}){1,3}?)?"
_ASSIGNS = re.compile(
    rf"{_FOR}(?:\\*[\"'`\]*_]){{0,4}}\s{{0,3}}"
    r"(?:(?P<compares>[=!]==?)|:=|=>|:(?!:)|=|>(?=\S))(?:[*_]{1,3}(?=\s))?\s{0,3}"
)
_SAYS = re.compile(
    rf"(?:(?P<verb>{_FOR}\s+(?:is|was|to|as|of|equals):?)?\s+|\s*(?=\())"
    r"(?:(?:->|[\u2192\u2013\u2014|(]|-(?=\s))\s*)?",
    re.IGNORECASE,
)
# Up to the quotation mark that has as many backslashes as the first.
_QUOTED = re.compile(
    r"(?:[fbru]{1,2}(?=\\*[\"']))?(?P<escape>\\*)(?P<quote>[\"'`])"
    r"(?P<value>(?:(?!(?<!\\)(?P=escape)(?P=quote)).){0,8192})",
    re.DOTALL | re.IGNORECASE,
)
_BARE = re.compile(r"(?P<value>[^\s\"'`]+)")
_REST_OF_LINE = re.compile(r"[^\r\n\"'`]*")
# What stands for a value in code, or has been taken out already.
_PLACEHOLDER = re.compile(
    r"(?:(?:bearer|basic|token) )?(?:none|null|nil|true|false|str|string|bytes|int"
    r"|bool|any|undefined|required|optional(?:\[\w*\])?|\*{3,}|\.{3,}|x{4,}|…|\[redacted\]|<[\w\s.-]{0,64}>"
    r"|\{\{?[\w\s.$-]{0,64}\}?\}|(?-i:\$[A-Z_][A-Z0-9_]{0,63}|\$\d\d?)|\$\{[^}]{0,64}\}|\$\([^)]{0,64}\)"
    r"|%\(?\w{0,64}\)?s"
    r"|(?:os|self|process|settings|config|args|env|secrets|getpass)"
    r"(?:[.(\[][\w.(\[]{0,64}[^\s]{0,64})?)[,;.)\]}|]{0,4}",
    re.IGNORECASE,
)
_PUNCTUATION = ".,;:!?)]}>"
_LEAST_MADE = 6
_COUNT_DIGITS = 3


def called_spans(text: str) -> Iterator[tuple[int, int]]:
    """Find the values behind names that say what they are."""
    for stem in _STEM.finditer(text):
        rest = _REST.match(text, stem.end())
        end = rest.end() if rest else stem.end()
        name = _NAME.search(text, max(0, stem.start() - _BEFORE_CHARACTERS), end)
        if name is None or not is_secret(name[0]):
            continue
        assigns = _ASSIGNS.match(text, end)
        if assigns is not None:
            span = _assigned(text, assigns, name[0])
        else:
            says = _SAYS.match(text, end)
            span = None if says is None else _said(text, says, name[0])
        if span is not None:
            yield span


def _assigned(text: str, assigns: re.Match[str], name: str) -> tuple[int, int] | None:
    value = _value(text, assigns.end())
    if value is None:
        return None
    if assigns["compares"] and value.re is _BARE and not _is_made(value["value"]):
        return None  # with a variable
    begin, end = value.span("value")
    if value.re is _BARE and takes_the_line(name):
        rest = _REST_OF_LINE.match(text, end)
        end = rest.end() if rest else end
    return begin, end


def _said(text: str, says: re.Match[str], name: str) -> tuple[int, int] | None:
    value = _value(text, says.end())
    if value is None:
        return None
    word = value["value"].rstrip(_PUNCTUATION)
    has_verb = says["verb"] is not None
    if value.re is _QUOTED:
        # Without a verb what is quoted is its name, perhaps: secret "db-main".
        is_meant = has_verb or _is_made(word)
    elif name.rpartition(" ")[2].startswith("-"):
        is_meant = not word.startswith("-")
    else:
        is_meant = _is_odd(word) if has_verb else _is_made(word)
    return value.span("value") if is_meant else None


def _value(text: str, at: int) -> re.Match[str] | None:
    """Take what stands here, unless it is a placeholder, or counts something."""
    value = _QUOTED.match(text, at) or _BARE.match(text, at)
    if value is None or not value["value"] or _PLACEHOLDER.fullmatch(value["value"]):
        return None
    word = value["value"].rstrip(_PUNCTUATION)
    is_count = word.isdigit() and len(word) <= _COUNT_DIGITS
    is_mark = len(word) < _LEAST_MADE and not any(map(str.isalnum, word))
    return None if is_count or is_mark else value


def _is_odd(word: str) -> bool:
    """Tell what is no word of a sentence."""
    is_word = word.replace("-", "").isalpha() and (word.islower() or word.istitle())
    return bool(word) and not is_word


def _is_made(word: str) -> bool:
    """Tell what has both letters and digits, and is no short name."""
    has_digit = any(character.isdigit() for character in word)
    has_letter = any(character.isalpha() for character in word)
    return has_digit and has_letter and len(word) >= _LEAST_MADE
