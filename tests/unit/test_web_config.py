"""The web configuration file: what it may say, and how it is told that it may not."""

import shutil
import ssl
from pathlib import Path

import pytest
import trustme

from loopotel_prom.errors import ConfigError
from loopotel_prom.web.tls import make_context
from loopotel_prom.web.web_config import read_web_config

_EXAMPLES = Path(__file__).parents[2] / "specs" / "examples" / "web-config"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    """Make the files that the examples name."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    for name in ("server", "other"):
        made = authority.issue_cert("localhost")
        made.private_key_pem.write_to_path(folder / f"{name}.key")
        (folder / f"{name}.pem").write_bytes(
            b"".join(blob.bytes() for blob in made.cert_chain_pems)
        )
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return folder


def _load(example: Path, certificates: Path) -> ssl.SSLContext | None:
    file = Path(shutil.copy(example, certificates))
    config = read_web_config(file)
    return None if config.tls is None else make_context(config.tls, file)


@pytest.mark.parametrize("name", sorted(p.name for p in _EXAMPLES.glob("*.good.yml")))
def test_a_good_file_is_read(certificates, name):
    """Everything in it can be done."""
    _load(_EXAMPLES / name, certificates)


@pytest.mark.parametrize("name", sorted(p.name for p in _EXAMPLES.glob("*.bad.yml")))
def test_a_bad_file_is_told_what_would_do(certificates, name):
    """The one error names file and key."""
    with pytest.raises(ConfigError) as caught:
        _load(_EXAMPLES / name, certificates)
    expected = (_EXAMPLES / name).with_suffix(".expected.txt").read_text().strip()
    expected = expected.replace("FOLDER", str(certificates))
    assert str(caught.value) == f"web config {certificates / name}: {expected}"


def test_everything_in_a_file_is_taken_over(certificates):
    """Each key has its place."""
    config = read_web_config(
        Path(shutil.copy(_EXAMPLES / "everything.good.yml", certificates))
    )
    assert config.tls is not None
    assert config.tls.cert_file == certificates / "server.pem"
    assert config.tls.client_allowed_sans == ("prometheus.example",)
    assert config.tls.cipher_suites[0] == "ECDHE-RSA-AES128-GCM-SHA256"
    assert ("X-Frame-Options", "deny") in config.headers
    assert list(config.users) == ["prometheus"]
    assert config.authenticates
    assert "curve_preferences" in config.ignored[0]


def test_a_context_has_the_versions_and_ciphers_that_were_chosen(certificates):
    """And no way to negotiate anew."""
    context = _load(_EXAMPLES / "everything.good.yml", certificates)
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.options & ssl.OP_NO_RENEGOTIATION
    old = [c["name"] for c in context.get_ciphers() if c["protocol"] == "TLSv1.2"]
    assert old == ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"]


def test_a_file_that_is_not_there_is_told(tmp_path):
    """With its name."""
    with pytest.raises(ConfigError, match=r"absent\.yml: it cannot be read: No such"):
        read_web_config(tmp_path / "absent.yml")


def test_a_key_with_a_password_asks_nobody(certificates, tmp_path):
    """A process that starts has no one at its terminal."""
    from cryptography.hazmat.primitives import serialization as s  # noqa: PLC0415

    key = s.load_pem_private_key((certificates / "server.key").read_bytes(), None)
    (tmp_path / "server.key").write_bytes(
        key.private_bytes(
            s.Encoding.PEM,
            s.PrivateFormat.PKCS8,
            s.BestAvailableEncryption(b"secret"),
        )
    )
    shutil.copy(certificates / "server.pem", tmp_path)
    with pytest.raises(ConfigError, match="the key has a password"):
        _load(_EXAMPLES / "tls.good.yml", tmp_path)
