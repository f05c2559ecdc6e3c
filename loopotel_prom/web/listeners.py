"""Listeners: the sockets behind listen addresses."""

import contextlib
import errno
import ipaddress
import os
import socket
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

from loopotel_prom.errors import ConfigError
from loopotel_prom.web.address import (
    Address,
    AnyAddress,
    SystemdAddress,
    UnixAddress,
)

# Where systemd's sockets begin: sd_listen_fds(3).
_FIRST_DESCRIPTOR = 3


class Listener:
    """
    A bound socket, and how it is called.

    Attributes:
        socket: The socket; it listens after `listen`.
        address: What was asked for, with the port that was really taken.
    """

    def __init__(
        self, bound: socket.socket, address: AnyAddress, file: Path | None = None
    ) -> None:
        self.socket = bound
        self.address = address
        self._file = file
        self._identity = None if file is None else _identity(file)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.socket.family not in (socket.AF_INET, socket.AF_INET6):
            return True
        host = str(self.socket.getsockname()[0]).partition("%")[0]
        return ipaddress.ip_address(host).is_loopback

    def listen(self, backlog: int) -> None:
        """
        Let clients connect.

        Raises:
            ConfigError: Another has begun to listen there.
        """
        try:
            self.socket.listen(backlog)
        except OSError as error:
            raise _error(self.address, error) from error

    def remove_file(self) -> None:
        """Remove its file, unless another socket has taken its place."""
        if self._file is not None and _identity(self._file) == self._identity:
            with contextlib.suppress(OSError):
                self._file.unlink()


def bind_all(addresses: Sequence[AnyAddress]) -> list[Listener]:
    """
    Bind sockets; none listens yet.

    Raises:
        ConfigError: One cannot be bound; none is then.
    """
    listeners: list[Listener] = []
    try:
        for address in addresses:
            listeners += _bind(address)
    except BaseException:
        close_all(listeners)
        raise
    return listeners


def close_all(listeners: Sequence[Listener]) -> None:
    """Close sockets and remove their files."""
    for listener in listeners:
        listener.socket.close()
        listener.remove_file()


def _bind(address: AnyAddress) -> list[Listener]:
    try:
        if isinstance(address, SystemdAddress):
            return _handed_over(address)
        if isinstance(address, UnixAddress):
            return [_bind_file(address)]
        return [_bind_port(address)]
    except OSError as error:
        raise _error(address, error) from error


def _error(address: AnyAddress, error: OSError) -> ConfigError:
    hint = "choose another address"
    if error.errno == errno.EADDRINUSE and isinstance(address, Address):
        hint = "choose another port, or 0 for any free one"
    return ConfigError(f"cannot listen on {address}: {error.strerror or error}; {hint}")


def _bind_port(address: Address) -> Listener:
    host, has_both = address.host, socket.has_dualstack_ipv6()
    if not host:
        host = "::" if has_both else "0.0.0.0"  # noqa: S104 - asked for
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # Another process on the same port is a mistake to be told, not to be shared:
        # elsewhere than on Windows this option allows no more than a quick restart.
        if os.name != "nt":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == "::" and has_both:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind((host, address.port))
        return Listener(bound, Address(address.host, bound.getsockname()[1]))
    except BaseException:
        bound.close()
        raise


def _bind_file(address: UnixAddress) -> Listener:
    if not hasattr(socket, "AF_UNIX"):
        raise OSError(errno.EAFNOSUPPORT, "there are no such sockets on this system")
    path = Path(address.path).absolute()
    _refuse_what_lives(path)
    bound = socket.socket(socket.AF_UNIX)
    try:
        # In a folder that nobody else can enter, until it has its mode; then it takes
        # the place of a stale one at once.
        with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as folder:
            made = Path(folder) / "s"
            bound.bind(str(made))
            made.chmod(0o600)
            made.replace(path)
        return Listener(bound, address, path)
    except BaseException:
        bound.close()
        raise


def _refuse_what_lives(path: Path) -> None:
    """
    Make sure that what is at a path can be replaced.

    Raises:
        OSError: It is no socket, or someone listens on it.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "the file is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return
    raise OSError(errno.EADDRINUSE, "another process listens on it")


def _handed_over(address: SystemdAddress) -> list[Listener]:
    """Take the sockets of systemd's socket activation."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise ConfigError(
            "cannot listen on systemd: it has handed no socket to this process"
            " (LISTEN_PID); start it by a unit with a .socket"
        )
    count = os.environ.get("LISTEN_FDS", "")
    if not (count.isascii() and count.isdecimal()) or int(count) < 1:
        raise ConfigError(
            f"cannot listen on systemd: LISTEN_FDS is {count!r}; start it by a unit"
            " with a .socket"
        )
    return [_adopt(_FIRST_DESCRIPTOR + n, address) for n in range(int(count))]


def _adopt(descriptor: int, address: SystemdAddress) -> Listener:
    # A copy: to be configured again, a process needs it again.
    bound = socket.socket(fileno=os.dup(descriptor))
    if bound.type != socket.SOCK_STREAM:
        bound.close()
        raise OSError(errno.EPROTOTYPE, f"descriptor {descriptor} is no stream socket")
    if bound.family in (socket.AF_INET, socket.AF_INET6):
        host, port = bound.getsockname()[:2]
        return Listener(bound, Address(host, port))
    return Listener(bound, address)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
