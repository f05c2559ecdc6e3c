"""TLS: what a web configuration says of it, as Python's ssl understands it."""

import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from loopotel_prom.errors import ConfigError
from loopotel_prom.web.web_config import TlsConfig

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CERTIFICATE = {
    "NoClientCert": ssl.CERT_NONE,
    # Asked for and not looked at: whoever has none comes in as well.
    "RequestClientCert": ssl.CERT_NONE,
    "RequireAnyClientCert": ssl.CERT_REQUIRED,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


def make_context(config: TlsConfig, file: Path) -> ssl.SSLContext:
    """
    Make the context of the connections.

    Args:
        config: How TLS is spoken.
        file: Where that stands, for errors.

    Raises:
        ConfigError: A file is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[config.min_version]
    context.maximum_version = _VERSIONS[config.max_version]
    # A client could have us compute for ever.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if not config.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if config.cipher_suites:
        context.set_ciphers(":".join(config.cipher_suites))
    context.set_alpn_protocols(["http/1.1"])
    try:
        # A key with a password must not ask for it on the terminal.
        context.load_cert_chain(config.cert_file, config.key_file, _no_password)
    except (OSError, ValueError) as error:
        raise _error(
            file,
            "cert_file",
            f"{config.cert_file} and key_file {config.key_file} do not make a pair:"
            f" {_reason(error)}; give a PEM certificate and its key without password",
        ) from error
    context.verify_mode = _CERTIFICATE[config.client_auth_type]
    if config.client_ca_file is not None:
        try:
            context.load_verify_locations(config.client_ca_file)
        except OSError as error:
            raise _error(
                file,
                "client_ca_file",
                f"{config.client_ca_file} has no certificate: {_reason(error)}; give"
                " a PEM file",
            ) from error
    return context


def _no_password() -> str:
    raise ValueError("the key has a password")


def _error(file: Path, key: str, reason: str) -> ConfigError:
    return ConfigError(f"web config {file}: tls_server_config.{key} {reason}")


def _reason(error: Exception) -> str:
    return str(
        getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    )


def names_one_of(
    certificate: Mapping[str, object] | None, allowed: Sequence[str]
) -> bool:
    """Tell whether a certificate's alternative names hold one that is allowed."""
    return any(name in allowed for name in _alternative_names(certificate or {}))


def _alternative_names(certificate: Mapping[str, object]) -> Iterator[str]:
    entries = certificate.get("subjectAltName", ())
    if isinstance(entries, tuple):
        # ("DNS", "a.example"), ("IP Address", "192.0.2.1"), ("URI", …), ("email", …)
        yield from (str(value) for _, value in entries)
