"""Paths and web addresses: nothing that leads elsewhere is ever inside, or at a listed host."""

import posixpath
import re
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crew_guard.core.addresses import directory_problem, host_problem, is_inside, leads_to

PARTS = st.sampled_from(["a", "b", "..", ".", "", "srv", "data", "~", "\uff0e\uff0e", "a\\b", "%2e%2e", "\x00", "c:"])
PIECES = st.sampled_from(
    [
        *"/:@?#\\.%[]-_ \t\n",
        "http",
        "https",
        "://",
        "//",
        "example.com",
        "evil.com",
        "sub.",
        "80",
        "443",
        "xn--",
        "é",
        "\uff0f",
        "\u3002",
        "%2f",
    ]
)


@pytest.mark.parametrize("path", ["/srv/data", "/srv/data/", "/srv/data/a", "/srv//data/./a/b.txt", "/srv/data/..a"])
def test_what_is_in_the_directory_is_inside(path):
    """The directory itself, what is below it, and spellings that normalise to it."""
    assert is_inside(path, "/srv/data")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/srv",
        "/srv/database",
        "/srv/data/../x",
        "/srv/data/a/..",
        "srv/data/a",
        "/srv/data\\..\\x",
        "/srv/data/%2e%2e/x",
        "~/srv/data",
        "file:///srv/data/a",
        "/srv/data/\uff0e\uff0e/x",
        "/srv/data/\x00",
        "/SRV/data/a",
    ],
)
def test_what_may_lead_elsewhere_is_not_inside(path):
    """Neighbours, parents, links' parents, encodings, homes, schemes and look-alikes."""
    assert not is_inside(path, "/srv/data")


@pytest.mark.parametrize(
    ("path", "inside"), [("a.txt", True), ("./b/a", True), ("../a", False), ("/a", False), ("c:a", False)]
)
def test_a_relative_directory_takes_relative_paths(path, inside):
    """The dot is wherever the tool stands; nothing absolute is in it."""
    assert is_inside(path, ".") is inside


@given(st.lists(PARTS, max_size=8).map("/".join), st.sampled_from(["/srv/data", "srv", "."]))
@example("/srv/data/a/../../..", "/srv/data")
def test_inside_agrees_with_a_normaliser(path, directory):
    """What is let in stays in after the standard library's own normalising, from any starting point."""
    if is_inside(path, directory):
        base = posixpath.normpath(posixpath.join("/start", directory))
        full = posixpath.normpath(posixpath.join("/start", path))
        assert full == base or full.startswith(f"{base.rstrip('/')}/")
        assert ".." not in path.split("/")


@pytest.mark.parametrize(
    ("url", "listed", "leads"),
    [
        ("https://example.com/a?b=c#d", "example.com", True),
        ("HTTP://EXAMPLE.COM./", "example.com", True),
        ("example.com/a", "example.com", True),
        ("https://example.com:443/", "example.com", True),
        ("https://example.com/@evil.com", "example.com", True),
        ("https://www.example.com", "*.example.com", True),
        ("https://a.b.example.com", "*.example.com", True),
        ("http://[::1]:8080/", "[0:0:0:0:0:0:0:1]:8080", True),
        ("https://example.com:8443/", "example.com:8443", True),
        ("https://example.com", "*.example.com", False),
        ("https://www.example.com", "example.com", False),
        ("https://example.com.evil.com", "example.com", False),
        ("https://notexample.com", "*.example.com", False),
        ("https://user@example.com", "example.com", False),
        ("https://example.com@evil.com", "example.com", False),
        ("https://example.com:80@evil.com", "example.com", False),
        ("https://evil.com\\@example.com", "example.com", False),
        ("https://evil.com#@example.com", "example.com", False),
        ("https://example.com:8443/", "example.com", False),
        ("http://example.com:443/", "example.com", False),
        ("https://exam\tple.com", "example.com", False),
        (" https://example.com", "example.com", False),
        ("//example.com", "example.com", False),
        ("https:example.com", "example.com", False),
        ("https:///example.com", "example.com", False),
        ("ftp://example.com", "example.com", False),
        ("javascript:alert(1)//example.com", "example.com", False),
        ("https://\u0435xample.com", "example.com", False),
        ("https://example\u3002com", "example.com", False),
        ("https://example%2ecom", "example.com", False),
        ("https://example.com\uff0f.evil.com", "*.evil.com", False),
        ("https://2130706433/", "127.0.0.1", False),
        ("", "example.com", False),
    ],
)
def test_where_an_address_leads(url, listed, leads):
    """A host is itself, *.host what is below it; tricks with users, ports and letters lead nowhere."""
    assert not host_problem(listed)
    assert leads_to(url, (listed,)) is leads


@given(st.lists(PIECES, max_size=12).map("".join))
@example("http://example.com\\@evil.com")
@example("http://a.example.com:80")
def test_an_address_that_is_let_through_is_read_alike_elsewhere(url):
    """The standard library finds a listed host in it, too, and nobody to log in as."""
    if leads_to(url, ("example.com", "*.example.com")):
        other = urlsplit(url if re.match("[A-Za-z][A-Za-z0-9+.-]*://", url) else f"http://{url}")
        host = (other.hostname or "").removesuffix(".")
        assert host == "example.com" or host.endswith(".example.com")
        assert other.username is None
        assert other.port in (None, 80, 443)


@pytest.mark.parametrize(
    "listed", ["http://a.com", "a.com/x", "*", "*.1.2.3", "é.com", "a..com", "", "user@a.com", "*.[::1]", "[::g]"]
)
def test_a_listed_host_is_checked(listed):
    """What could never match, or would match too much, is told when the policy is read."""
    assert "expected a host" in host_problem(listed)


@pytest.mark.parametrize("directory", ["", "../a", "a\\b", "~/a", "c:/a"])
def test_a_listed_directory_is_checked(directory):
    """So is a directory."""
    assert directory_problem(directory)
