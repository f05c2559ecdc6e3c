"""Our own rules: what is shaped as a secret or stands where one does; e-mail."""

import re
from base64 import b64decode
from collections.abc import Iterator

from loopotel_prom.exporter.redaction.called import called_spans

_BEARER = re.compile(r"(?i:\bbearer)\s+(?P<bare>(?=\S*[0-9A-Z_.+/=-])\S{8,})")
_BASIC = re.compile(r"(?i:\bbasic)\s+(?P<bare>[A-Za-z0-9+/]{4,}={0,2})(?![\w+/])")
_USER = re.compile(r"(?:\s-u|--user)[ =]['\"]?[^\s:'\"]{1,256}:(?P<bare>[^\s'\"]+)")
_MYSQL = re.compile(r"\bmysql\w*\s[^\n]{0,200}?\s-p(?P<bare>[^\s'\"]+)")
_LOGIN = re.compile(
    r"\b(?:sshpass|(?:docker|helm|podman|registry)\s+login)\b[^\n]{0,200}?\s-p\s*"
    r"(?P<bare>[^\s'\"]+)"
)
_REDIS = re.compile(r"\bredis-cli\s[^\n]{0,200}?-a\s+(?P<bare>[^\s'\"]+)")
_NETRC = re.compile(r"\blogin\s+\S{1,256}\s+password\s+(?P<bare>\S+)")
_PAIR = re.compile(
    r"(?<![\w/.:-])[\w.-]{1,64}:(?P<bare>[^\s:@/\"']{3,256})@"
    r"[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]|:\d)"
)
_PAIR_IN_URL = re.compile(r"://[^\s:/@]{0,256}:(?P<bare>[^\s\"'<>]{1,1024})@")
_TOKEN_IN_URL = re.compile(r"://(?P<bare>(?=[^\s/@:]{0,256}\d)[^\s/@:]{8,256})@")
_BLOCK = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:.*?-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|.*)"
    r"|PuTTY-User-Key-File-\d.*",
    re.DOTALL,
)
_SHAPED = re.compile(
    r"(?<![\w=-])eyJ[\w=-]{8,}+(?:\.[\w=+/-]*){1,4}"
    r"|(?<![A-Za-z0-9])(?:"
    r"sk-[A-Za-z0-9_-]{16,}"
    r"|(?:sk|rk|pk|whsec)_(?:live_|test_)?[A-Za-z0-9]{16,}"
    r"|(?:ATATT3|ATCTT3|PMAK|csk|dckr_pat|do[op]_v1|dp\.[ps]t|fc|figd|fw|github_pat|glc"
    r"|glsa|gsk|hf|hv[brs]|jina|lin_api|lsv2_[ps][kt]|npm|ntn|nvapi|pcsk|pplx|pul|r8|rpa"
    r"|sbp|secret|shp(?:at|ca|pa|ss)|sntry[su]|tvly|xai|xapp|xox[a-z])"
    r"[-_.](?=[A-Za-z_.=-]*\d)[A-Za-z0-9_.=-]{16,}"
    r"|AIza[\w-]{30,}|ya29\.[\w-]{16,}|1//0[\w-]{20,}|EAA[A-Za-z0-9]{30,}"
    r"|AGE-SECRET-KEY-1[A-Z0-9]{20,}"
    r"|[MNO][\w-]{22,28}\.[\w-]{6}\.[\w-]{20,})"
)
_EMAIL = re.compile(
    r"(?<![\w.+%-])(?!git@)[\w.+%-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b"
)
_PLACES = (
    *(_BEARER, _USER, _MYSQL, _LOGIN, _REDIS, _NETRC),
    *(_PAIR, _PAIR_IN_URL, _TOKEN_IN_URL),
)


def rule_spans(text: str) -> Iterator[tuple[int, int]]:
    """Find what is a secret by its shape, its place or its name."""
    for pattern in (_BLOCK, _SHAPED, _EMAIL):
        yield from (found.span() for found in pattern.finditer(text))
    for pattern in _PLACES:
        yield from (found.span("bare") for found in pattern.finditer(text))
    for found in _BASIC.finditer(text):
        if b":" in _decoded(found["bare"]):
            yield found.span("bare")
    yield from called_spans(text)


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
