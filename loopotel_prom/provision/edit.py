"""
The edit of a shipped file: other addresses in the place of the default ones.

The shipped files are in use as they are, with their comments, so they are no
templates. Every address in them is one of the defaults, spelled in full; each is
found as a whole, once, and replaced by what stands for it at that place.
"""

import re
from collections.abc import Callable

from loopotel_prom.provision.addresses import DEFAULT, Addresses, Place

_EXPORTER_PORT = 10_110
_WEBHOOK_PORT = 5001

# With a scheme a link, before a second port what a container publishes, else a
# host and port to connect to. Neither a part of a longer name nor of another port.
_ADDRESS = re.compile(
    r"(?<![\w.:/-])"
    r"(?P<scheme>http://)?(?:localhost|127\.0\.0\.1):"
    r"(?P<port>10110|9090|9093|3000|5001)"
    r"(?P<inside>:\d+)?(?!\w|[.:-]\w)"
    r"(?P<path>/runbooks(?![\w-])|/(?![\w.-]))?"
)
# The one target of a list, which may become several.
_TARGET = re.compile(
    r"^(?P<before> *- |.*\[ *)(?P<quote>[\"']?)localhost:10110(?P=quote)"
    r"(?P<after> *\]| *)$",
    re.MULTILINE,
)
# What connects to Alertmanager; with no scheme it is HTTP at /.
_ALERTMANAGERS = re.compile(r"(?<=^  alertmanagers:\n)    - (?=static)", re.MULTILINE)
_LISTEN = re.compile(r"--web\.listen-address 127\.0\.0\.1:10110$", re.MULTILINE)
_HANDED = re.compile(r"--web\.listen-address systemd$", re.MULTILINE)
_SERVES = re.compile(r"^(?=ExecStart=\S+ serve )", re.MULTILINE)
_STREAM = re.compile(r"^ListenStream=127\.0\.0\.1:10110$", re.MULTILINE)
# What stands above a service that other machines may ask.
_WARNING = """\
# Whoever reaches the port can read all of it: runs, traces, what agents were told. Let
# a firewall admit Prometheus alone; or ask for a password or a certificate:
#
#   LoadCredential=web.yml:/etc/loopotel-prom/web.yml
#
# and, in the place of --web.allow-unauthenticated,
#
#   --web.config.file ${CREDENTIALS_DIRECTORY}/web.yml
#
# The file is as Prometheus' exporters have it; specs/examples/web-config/ of the
# project has some. Passwords need loopotel-prom[web]; Prometheus' job then needs
# basic_auth or tls_config.
"""
# In the checkout the dashboards and the package lie beside deploy/, in what is
# provisioned within it.
_OUTSIDE = re.compile(r"\.\./(?P<rest>(?:\.\./)*dashboards\b)")


def edit(path: str, text: str, addresses: Addresses) -> str:
    """
    Give a shipped file for other addresses.

    With the default ones nothing but references to other folders changes.

    Args:
        path: The file's, below ``deploy/``; ``dashboards/...`` for a dashboard.
        text: What is in it.
        addresses: What to put in.
    """
    if addresses != DEFAULT:
        for pattern, replace in _special(path, addresses):
            text = pattern.sub(replace, text)
        text = _ADDRESS.sub(lambda match: _put(match, addresses), text)
    return text


def relocate(path: str, text: str) -> str:
    """Have a file refer to what is beside it now; see `edit` for `path`."""
    if path == "compose/compose.yaml":
        text = text.replace("context: ../..\n", "context: ..\n")
        text = text.replace("dockerfile: deploy/Dockerfile", "dockerfile: Dockerfile")
    if path.startswith(("compose/", "kubernetes/")):
        text = _OUTSIDE.sub(r"\g<rest>", text)
    return text


_Replace = Callable[[re.Match[str]], str]


def _special(
    path: str, addresses: Addresses
) -> tuple[tuple[re.Pattern[str], _Replace], ...]:
    """Give what is done to one kind of file before all others."""
    if path.startswith("prometheus/"):
        return (
            (_TARGET, lambda match: _targets(match, addresses)),
            (_ALERTMANAGERS, lambda match: _reached(match, addresses.alertmanager)),
        )
    if path.startswith("systemd/"):
        first = addresses.exporters[0]
        return (
            (_LISTEN, lambda _: f"--web.listen-address {_listen(first)}{_open(first)}"),
            (_HANDED, lambda match: f"{match[0]}{_open(first)}"),
            (_STREAM, lambda _: f"ListenStream={_stream(first)}"),
            (_SERVES, lambda _: "" if first.is_local else _WARNING),
        )
    return ()


def _put(match: re.Match[str], addresses: Addresses) -> str:
    port, path = int(match["port"]), match["path"] or ""
    if port == _WEBHOOK_PORT:
        return addresses.webhook
    place = {
        _EXPORTER_PORT: addresses.exporters[0],
        9090: addresses.prometheus,
        9093: addresses.alertmanager,
        3000: addresses.grafana,
    }[port]
    if match["inside"]:
        return f"127.0.0.1:{place.port or port}{match['inside']}"
    if not match["scheme"]:
        return place.authority + path
    if path == "/runbooks":
        return addresses.runbooks
    return place.url + path


def _targets(match: re.Match[str], addresses: Addresses) -> str:
    quoted = [f'"{each.netloc}"' for each in addresses.exporters]
    before = match["before"]
    if before.endswith("- "):
        return "\n".join(before + each for each in quoted)
    return before + ", ".join(quoted) + match["after"]


def _reached(match: re.Match[str], place: Place) -> str:
    """Say how, where that is not HTTP at the root."""
    fields = {
        "scheme": "" if place.scheme == "http" else place.scheme,
        "path_prefix": place.path,
    }
    lines = [f"{name}: {value}\n      " for name, value in fields.items() if value]
    return match[0] + "".join(lines)


def _listen(exporter: Place) -> str:
    if not exporter.is_local:
        return f":{exporter.port}"
    host = "[::1]" if exporter.netloc.startswith("[") else "127.0.0.1"
    return f"{host}:{exporter.port}"


def _open(exporter: Place) -> str:
    """Let other machines ask, where it is they who will."""
    return "" if exporter.is_local else " \\\n    --web.allow-unauthenticated"


def _stream(exporter: Place) -> str:
    return _listen(exporter).removeprefix(":")
