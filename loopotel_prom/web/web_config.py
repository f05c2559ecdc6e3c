"""
The web configuration file: TLS, users and headers, as Prometheus' exporters have it.

``--web.config.file`` of the exporter-toolkit. Read whole and checked whole: a file with
anything in it that would not do what it says is refused.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, cast, get_args

import yaml

from loopotel_prom.errors import ConfigError
from loopotel_prom.web.message import Headers

T = TypeVar("T")

ClientAuth = Literal[
    "NoClientCert",
    "RequestClientCert",
    "RequireAnyClientCert",
    "VerifyClientCertIfGiven",
    "RequireAndVerifyClientCert",
]
Version = Literal["TLS12", "TLS13"]

_REQUIRING = ("RequireAnyClientCert", "RequireAndVerifyClientCert")
_HASH = re.compile(r"\$2[abxy]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")
# A check takes about a second on a usual machine; of more, nobody could scrape.
_HIGHEST_COST = 14
# Those of the exporter-toolkit, with the values that they can have there.
_HEADERS: dict[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
# By Go's names, which the file has. Those of TLS 1.3 cannot be chosen, here or there.
CIPHER_SUITES = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_AES_128_GCM_SHA256": "",
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """
    How TLS is spoken.

    Attributes:
        cert_file: The certificate and its chain, PEM.
        key_file: Its key, PEM.
        client_auth_type: Whether a client shows a certificate.
        client_ca_file: Who must have signed it.
        client_allowed_sans: One of these must be in it, if there are any.
        min_version: The oldest TLS.
        max_version: The newest TLS.
        cipher_suites: OpenSSL's names of those for TLS 1.2; its own choice if none.
        prefer_server_cipher_suites: Whether their order is ours, or the client's.
    """

    cert_file: Path
    key_file: Path
    client_auth_type: ClientAuth = "NoClientCert"
    client_ca_file: Path | None = None
    client_allowed_sans: tuple[str, ...] = ()
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True

    @property
    def requires_certificate(self) -> bool:
        """Whether a client without a certificate is turned away."""
        return self.client_auth_type in _REQUIRING


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """
    What a web configuration file says.

    Attributes:
        tls: How TLS is spoken; None where it is not.
        users: By name, the bcrypt hash of the password; anyone may ask if none.
        headers: Of every answer.
        ignored: Keys that have no effect here, in words for the log.
    """

    tls: TlsConfig | None = None
    users: Mapping[str, str] = field(default_factory=dict)
    headers: Headers = ()
    ignored: tuple[str, ...] = ()

    @property
    def authenticates(self) -> bool:
        """Whether a stranger is turned away."""
        return bool(self.users) or (
            self.tls is not None and self.tls.requires_certificate
        )


class _Section:
    """A mapping of the file, read key by key; what is left at the end is unknown."""

    def __init__(self, file: Path, key: str, value: object) -> None:
        self._file = file
        self._key = key
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.error("", f"is {_kind(value)}; give it keys and values")
        for name in value:
            if not isinstance(name, str):
                raise self.error("", f"has the key {name!r}, no text; put it in quotes")
        self._rest: dict[str, object] = dict(value)

    def error(self, key: str, reason: str) -> ConfigError:
        """Name the file, the key, and what would do."""
        where = ".".join(filter(None, (self._key, key)))
        return ConfigError(f"web config {self._file}: {where or 'it'} {reason}")

    def section(self, key: str) -> "_Section | None":
        """Take a mapping; None where there is none."""
        if key not in self._rest:
            return None
        path = ".".join(filter(None, (self._key, key)))
        return _Section(self._file, path, self._rest.pop(key))

    def text(self, key: str) -> str:
        """Take a text; empty where there is none."""
        return self._take(key, "", lambda v: isinstance(v, str), "a text")

    def yes_or_no(self, key: str, *, default: bool) -> bool:
        """Take a truth."""
        return self._take(key, default, lambda v: type(v) is bool, "true or false")

    def texts(self, key: str) -> tuple[str, ...]:
        """Take a list of texts."""

        def are_texts(value: object) -> bool:
            return isinstance(value, list) and all(isinstance(v, str) for v in value)

        empty: list[str] = []
        return tuple(self._take(key, empty, are_texts, "a list of texts"))

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        """Take one of some words."""
        word = self.text(key) or default
        if word not in choices:
            raise self.error(key, f"is {word!r}; choose {_either(choices)}")
        return word

    def file(self, key: str) -> Path | None:
        """Take the name of a file, relative to the configuration's folder."""
        name = self.text(key)
        if not name:
            return None
        path = self._file.parent / name
        try:
            path.read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise self.error(
                key, f"names {path}, which cannot be read: {reason}; give a PEM file"
            ) from error
        return path

    def items(self) -> list[tuple[str, object]]:
        """Take all that is left."""
        rest, self._rest = list(self._rest.items()), {}
        return rest

    def end(self, known: tuple[str, ...]) -> None:
        """Refuse what is left."""
        for key in self._rest:
            raise self.error(key, f"is not known; there are {', '.join(known)}")

    def _take(
        self, key: str, default: T, good: Callable[[object], bool], want: str
    ) -> T:
        value = self._rest.pop(key, None)
        if value is None:
            return default
        if not good(value):
            raise self.error(key, f"is {_kind(value)}; give {want}")
        return cast("T", value)


def _kind(value: object) -> str:
    names = {dict: "a mapping", list: "a list", str: "a text", type(None): "empty"}
    return names.get(type(value), f"{value!r}")


def _either(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def read_web_config(path: Path) -> WebConfig:
    """
    Read a web configuration file.

    Raises:
        ConfigError: It cannot be read, or cannot work: the message names the file,
            the key, and what would do.
    """
    try:
        content = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"web config {path}: it cannot be read: {error.strerror or error};"
            " give a YAML file"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"web config {path}: it is no YAML: {reason}") from error
    root = _Section(path, "", content)
    tls, users = root.section("tls_server_config"), root.section("basic_auth_users")
    http = root.section("http_server_config")
    root.end(("tls_server_config", "basic_auth_users", "http_server_config"))
    ignored = []
    if http is not None and http.yes_or_no("http2", default=True):
        ignored.append("http_server_config.http2: answers are HTTP/1.1")
    if tls is not None and tls.texts("curve_preferences"):
        ignored.append("tls_server_config.curve_preferences: OpenSSL's own are used")
    return WebConfig(
        tls=None if tls is None else _tls(tls),
        users={} if users is None else dict(_users(users)),
        headers=() if http is None else _headers(http),
        ignored=tuple(ignored),
    )


def _tls(section: _Section) -> TlsConfig:
    for inline in ("cert", "key", "client_ca"):
        if section.text(inline):
            raise section.error(
                inline, f"cannot stand in the file; name a PEM file as {inline}_file"
            )
    cert_file, key_file = section.file("cert_file"), section.file("key_file")
    if cert_file is None or key_file is None:
        missing = "cert_file" if cert_file is None else "key_file"
        raise section.error(missing, "is missing; name a PEM file")
    config = TlsConfig(
        cert_file=cert_file,
        key_file=key_file,
        client_auth_type=cast(
            "ClientAuth",
            section.choice("client_auth_type", get_args(ClientAuth), "NoClientCert"),
        ),
        client_ca_file=section.file("client_ca_file"),
        client_allowed_sans=section.texts("client_allowed_sans"),
        min_version=_version(section, "min_version", "TLS12"),
        max_version=_version(section, "max_version", "TLS13"),
        cipher_suites=_cipher_suites(section),
        prefer_server_cipher_suites=section.yes_or_no(
            "prefer_server_cipher_suites", default=True
        ),
    )
    section.end((*TlsConfig.__dataclass_fields__, "curve_preferences"))
    _check_together(section, config)
    return config


def _version(section: _Section, key: str, default: Version) -> Version:
    return cast("Version", section.choice(key, get_args(Version), default))


def _cipher_suites(section: _Section) -> tuple[str, ...]:
    names = section.texts("cipher_suites")
    for name in names:
        if name not in CIPHER_SUITES:
            raise section.error(
                "cipher_suites",
                f"has {name!r}; choose from {', '.join(CIPHER_SUITES)}",
            )
    return tuple(filter(None, (CIPHER_SUITES[name] for name in names)))


def _check_together(section: _Section, config: TlsConfig) -> None:
    kind = config.client_auth_type
    if config.min_version > config.max_version:
        raise section.error("min_version", "is above max_version; lower it")
    if config.client_ca_file is None and kind not in (
        "NoClientCert",
        "RequestClientCert",
    ):
        hint = ""
        if kind == "RequireAnyClientCert":
            hint = ", for Python takes no certificate unverified"
        raise section.error(
            "client_ca_file", f"is missing, and {kind} needs it{hint}; name a PEM file"
        )
    if config.client_ca_file is not None and kind == "NoClientCert":
        raise section.error(
            "client_ca_file",
            "has no effect with NoClientCert; set client_auth_type to"
            " RequireAndVerifyClientCert",
        )
    if config.client_allowed_sans and not config.requires_certificate:
        raise section.error(
            "client_allowed_sans",
            f"cannot be checked with {kind}; set client_auth_type to"
            " RequireAndVerifyClientCert",
        )


def _users(section: _Section) -> list[tuple[str, str]]:
    users = []
    for name, value in section.items():
        match = _HASH.fullmatch(value) if isinstance(value, str) else None
        if match is None or not name or ":" in name:
            # Not the value: it may be a password.
            raise section.error(
                name, "is no bcrypt hash; make one with: htpasswd -nBC 10 NAME"
            )
        if int(match[1]) > _HIGHEST_COST:
            raise section.error(
                name,
                f"has a hash of cost {match[1]}, too slow to check at a scrape; make"
                f" one of at most {_HIGHEST_COST}",
            )
        users.append((name, value))
    return cast("list[tuple[str, str]]", users)


def _headers(section: _Section) -> Headers:
    headers = section.section("headers")
    section.end(("http2", "headers"))
    if headers is None:
        return ()
    found = []
    for name, values in _HEADERS.items():
        value = headers.text(name)
        if values and value and value not in values:
            raise headers.error(name, f"is {value!r}; choose {_either(values)}")
        if not value.isprintable() or not value.isascii():
            raise headers.error(name, f"is {value!r}; a header is one line of ASCII")
        if value:
            found.append((name, value))
    headers.end(tuple(_HEADERS))
    return tuple(found)
