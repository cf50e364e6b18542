"""Where a path or a web address leads, read from its text alone.

Both answer no wherever two readers of the same text might disagree: a parser's quirk is an attacker's door.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address
from typing import NamedTuple
from unicodedata import normalize

_ODD_IN_PATHS = re.compile(r"[\x00-\x1f\x7f\\]|%(?:2e|2f|5c)|^~|^[a-z][a-z0-9+.-]*:", re.IGNORECASE)
"""Control characters, backslashes, encoded dots and slashes, a home, a drive or a scheme."""
_ODD_IN_URLS = re.compile(r"[\x00-\x20\x7f\\\s]")
_URL = re.compile(r"(?:([a-z][a-z0-9+.-]*)://)?([^/?#]*)", re.IGNORECASE)
_PLACE = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+?)\.?(?::([0-9]{1,5}))?", re.IGNORECASE)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LONGEST_HOST = 253


class Place(NamedTuple):
    """A host, and its port where one is written."""

    host: str
    port: int | None = None


def is_inside(path: str, directory: str) -> bool:
    """Whether a POSIX path names the directory or something in it.

    Both are absolute, or both are relative to the same place. A path with a ".." is never inside: through
    a link it may lead anywhere. Links themselves can't be seen from here.
    """
    forms = {path, normalize("NFKC", path)}
    return all(_is_inside(form, directory) for form in forms)


def _is_inside(path: str, directory: str) -> bool:
    if not path or _ODD_IN_PATHS.search(path) or path.startswith("/") != directory.startswith("/"):
        return False
    parts, wanted = _parts(path), _parts(directory)
    return ".." not in parts and parts[: len(wanted)] == wanted


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def directory_problem(directory: str) -> str:
    """What is wrong with a directory of a rule; empty where nothing is."""
    if not directory or _ODD_IN_PATHS.search(directory) or ".." in _parts(directory):
        return "expected a directory such as /srv/reports or reports, with / between its parts and without .."
    return ""


def host_problem(listed: str) -> str:
    """What is wrong with an entry of a list of hosts; empty where nothing is."""
    base = listed.removeprefix("*.")
    place = _place(base)
    if place is None or (base != listed and (place.host.startswith("[") or place.host.rpartition(".")[2].isdigit())):
        return (
            f"expected a host such as example.com, *.example.com or example.com:8080 instead of {listed[:80]!r}; "
            "a name beyond ASCII is written as xn--…"
        )
    return ""


def leads_to(url: str, hosts: tuple[str, ...]) -> bool:
    """Whether an http or https address, or one without a scheme, leads to one of these hosts.

    example.com is that host alone, *.example.com every host below it and not itself. A port has to be
    the scheme's own unless the list names it. An address with user information never does.
    """
    if _ODD_IN_URLS.search(url):
        return False
    scheme, authority = _URL.match(url).groups()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]  matches anything
    usual = _DEFAULT_PORTS.get(scheme.lower()) if scheme else None
    place = _place(authority)
    if place is None or (scheme and usual is None):
        return False
    port = usual if place.port is None else place.port
    return any(_is_at(place.host, port, usual, listed) for listed in hosts)


def _is_at(host: str, port: int | None, usual: int | None, listed: str) -> bool:
    wanted = _place(listed.removeprefix("*."))
    if wanted is None or port != (usual if wanted.port is None else wanted.port):
        return False
    return host.endswith(f".{wanted.host}") if listed.startswith("*.") else host == wanted.host


def _place(authority: str) -> Place | None:
    found = _PLACE.fullmatch(authority)
    if found is None:
        return None
    host, port = found[1].lower(), int(found[2]) if found[2] else None
    if host.startswith("["):
        try:
            return Place(f"[{IPv6Address(host[1:-1]).compressed}]", port)
        except AddressValueError:
            return None
    if len(host) > _LONGEST_HOST or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        return None
    return Place(host, port)
