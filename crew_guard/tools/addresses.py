"""Which hosts and addresses an HTTP tool may reach: a list of names, and no private network behind them."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
PORTS = {"http": 80, "https": 443}
_LOOPBACK = ("127.0.0.0/8", "::1/128")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_URL_CHARS = 4_000


class HttpToolError(ValueError):
    """A request was not made, or came to nothing; the text is for the agent."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that was checked."""

    scheme: str
    host: str
    port: int
    rest: str
    """Path and query."""

    @property
    def netloc(self) -> str:
        """Host and port as a Host header has them."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if PORTS[self.scheme] == self.port else f"{name}:{self.port}"

    @property
    def url(self) -> str:
        """The whole URL."""
        return f"{self.scheme}://{self.netloc}{self.rest}"


@dataclass(frozen=True, slots=True)
class Reach:
    """Hosts by name, and the networks that are not public and may be reached all the same."""

    hosts: tuple[tuple[str, int | None], ...]
    """(name or pattern such as *.python.org, port); without a port 80 and 443."""
    private: tuple[Network, ...]

    @classmethod
    def of(cls, hosts: Sequence[str], private: Sequence[str]) -> Reach:
        """Read the two lists.

        Raises:
            ValueError: an entry is no host, or no network
        """
        known = tuple(_host(entry) for entry in hosts)
        networks = [*private]
        for name, _ in known:
            # Who lists an address, or localhost, means it.
            if name == "localhost":
                networks += _LOOPBACK
            elif (literal := _address(name)) is not None:
                networks.append(str(literal))
        return cls(known, tuple(ipaddress.ip_network(each) for each in networks))

    def check(self, url: str) -> Target:
        """The URL's parts, where its host is listed.

        Raises:
            HttpToolError: it isn't, or the URL is not one for this
        """
        try:
            parts = urlsplit(url.strip())
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            raise HttpToolError(f"{url[:200]!r} is not a URL") from None
        if parts.scheme not in PORTS or not host or len(url) > _URL_CHARS:
            raise HttpToolError(f"{url[:200]!r}: a URL starts with http:// or https:// and a host")
        if parts.username is not None or parts.password is not None:
            raise HttpToolError("a URL must not hold a user name or a password")
        if any(ord(each) <= ord(" ") for each in url.strip()):
            raise HttpToolError("a URL must not hold spaces or control characters")
        port = PORTS[parts.scheme] if port is None else port
        if not any(_matches(host, port, entry) for entry in self.hosts):
            listed = ", ".join(name if port is None else f"{name}:{port}" for name, port in self.hosts) or "none"
            raise HttpToolError(f"{host}:{port} is not among the hosts that may be asked: {listed}")
        return Target(parts.scheme, host, port, _rest(parts))

    async def addresses(self, target: Target) -> list[str]:
        """Where to connect to: addresses that were looked up once, and checked.

        Raises:
            HttpToolError: the name has none, or only such as are not public
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise HttpToolError(f"{target.host} can't be looked up: {error}") from None
        every = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
        allowed = [each for each in every if self._may_reach(ipaddress.ip_address(each))]
        if not allowed:
            raise HttpToolError(f"{target.host} has no public address, and its network is not listed")
        return allowed

    def _may_reach(self, address: Address) -> bool:
        inner = _embedded(address)
        if any(inner in network for network in self.private if network.version == inner.version):
            return True
        return inner.is_global and not inner.is_multicast


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to, where it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
    if address in _NAT64:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return inner or address


def _host(entry: str) -> tuple[str, int | None]:
    parts = urlsplit(f"//{entry}")
    try:
        name, port = parts.hostname, parts.port
    except ValueError:
        name, port = None, None
    if not name or parts.path or parts.query or "@" in entry or name == "*":
        raise ValueError(f"{entry!r} is not a host such as docs.python.org, *.python.org or localhost:8000")
    return name.rstrip("."), port


def _matches(host: str, port: int, entry: tuple[str, int | None]) -> bool:
    name, wanted = entry
    return fnmatchcase(host, name) and (port in PORTS.values() if wanted is None else port == wanted)


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _rest(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
