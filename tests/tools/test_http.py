"""HTTP tools on loopback: hosts, redirects, addresses, sizes."""

import asyncio
import gzip
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from crew_guard.errors import ConfigError, MissingDependencyError
from crew_guard.tools.addresses import HttpToolError, Reach
from crew_guard.tools.http import http_tools


class Site:
    """Answers by path, and counts who asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.hosts: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                site.hosts.append(self.headers["host"])
                site.answer(self)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                site.asked.append(f"{self.path} {self.headers['content-type']} {body}")
                site.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.over = threading.Event()
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path
        if path.startswith("/to/"):
            self.send(handler, b"", status=302, location=path.removeprefix("/to/"))
        elif path == "/page":
            self.send(
                handler, b"<h1>Herons</h1><script>evil()</script><p>They eat fish.</p>", "text/html; charset=utf-8"
            )
        elif path == "/big":
            self.send(handler, b"x" * 50_000)
        elif path == "/bomb":
            self.send(handler, gzip.compress(bytes(200_000_000), 1), encoding="gzip")
        elif path == "/packed":
            self.send(handler, gzip.compress(b"small"), encoding="gzip")
        elif path == "/odd":
            self.send(handler, b"??", encoding="br")
        elif path == "/picture":
            self.send(handler, b"\x89PNG", "image/png")
        elif path == "/gone":
            self.send(handler, b"no such page", status=404)
        elif path == "/slow":
            self.over.wait(30)
        else:
            self.send(handler, b"ok")

    @staticmethod
    def send(handler, data: bytes, kind: str = "text/plain", status: int = 200, location: str = "", encoding: str = ""):
        handler.send_response(status)
        handler.send_header("content-type", kind)
        handler.send_header("content-length", str(len(data)))
        if location:
            handler.send_header("location", location)
        if encoding:
            handler.send_header("content-encoding", encoding)
        handler.end_headers()
        handler.wfile.write(data)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.over.set()
    site.server.shutdown()
    site.server.server_close()


def get(site: Site, url: str, **options: object) -> str:
    [tool] = http_tools([f"127.0.0.1:{site.port}"], **options)
    return asyncio.run(tool.function(url=url))


def test_pages_are_text(site: Site) -> None:
    """HTML without its markup and scripts, text as it is, packed text unpacked, the rest named."""
    text = get(site, site.url("/page"))
    assert text == f"{site.url('/page')} (text/html)\n\n# Herons\n\nThey eat fish.\n"
    assert get(site, site.url("/packed")).endswith("\n\nsmall")
    assert get(site, site.url("/picture")).endswith("[image/png, 4 bytes: not text]")
    with pytest.raises(HttpToolError, match="answered 404: no such page"):
        get(site, site.url("/gone"))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://evil.example/", "evil.example:80 is not among the hosts"),
        ("http://127.0.0.1:1/", "127.0.0.1:1 is not among the hosts"),
        ("http://127.0.0.1.evil.example:{port}/", "is not among the hosts"),
        ("http://evil.example#@127.0.0.1:{port}/", "is not among the hosts"),
        ("http://me:secret@127.0.0.1:{port}/", "must not hold a user name"),
        ("http://127.0.0.1:{port}/a b\r\nX: y", "spaces or control"),
        ("file:///etc/passwd", "starts with http"),
        ("//127.0.0.1:{port}/", "starts with http"),
        ("http://[::1/", "is not a URL"),
        ("http://0x7f000001:{port}/", "is not among the hosts"),
    ],
)
def test_a_url_beyond_the_list_is_refused(site: Site, url: str, reason: str) -> None:
    """Nothing is asked, and no password is repeated."""
    with pytest.raises(HttpToolError, match=reason) as caught:
        get(site, url.replace("{port}", str(site.port)))
    assert site.asked == []
    assert "secret" not in str(caught.value)


def test_each_hop_of_a_redirect_is_checked(site: Site) -> None:
    """Within the list it is followed; beyond, and for ever, it isn't."""
    assert get(site, site.url("/to//there")).startswith(site.url("/there"))
    with pytest.raises(HttpToolError, match=r"evil\.example:80 is not among"):
        get(site, site.url("/to/http://evil.example/"))
    with pytest.raises(HttpToolError, match="user name"):
        get(site, site.url(f"/to/http://a:b@127.0.0.1:{site.port}/"))
    before = len(site.asked)
    with pytest.raises(HttpToolError, match="more than 5 redirects"):
        get(site, site.url("/to/" * 20 + "x"))
    assert len(site.asked) == before + 6


def test_a_name_that_leads_to_a_private_address_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listed name is not enough: the address it leads to must be public, or listed."""
    look_up(monkeypatch, {"public.example": ["127.0.0.1"], "mapped.example": ["::ffff:127.0.0.1"]})
    for name in ("public.example", "mapped.example"):
        [tool] = http_tools([f"{name}:{site.port}"])
        with pytest.raises(HttpToolError, match="no public address"):
            asyncio.run(tool.function(url=site.url("/", name)))
    assert site.asked == []
    [tool] = http_tools([f"public.example:{site.port}"], private=["127.0.0.0/8"])
    assert asyncio.run(tool.function(url=site.url("/", "public.example"))).endswith("ok")
    assert site.hosts == [f"public.example:{site.port}"]


def test_the_connection_goes_to_the_address_that_was_checked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that answers otherwise the second time is not asked a second time."""
    answers = iter([["127.0.0.1"], ["127.0.0.99"]])
    look_up(monkeypatch, {"rebind.example": answers})
    [tool] = http_tools([f"rebind.example:{site.port}"], private=["127.0.0.1"])
    assert asyncio.run(tool.function(url=site.url("/", "rebind.example"))).endswith("ok")
    assert next(answers) == ["127.0.0.99"]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",  # noqa: S104  names
     "::1", "fe80::1", "fc00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "ff02::1"],
)  # fmt: skip
def test_no_address_that_is_not_public_is_reached(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Private, loopback, link-local, shared, multicast, and IPv6 that leads to such IPv4."""
    look_up(monkeypatch, {"name.example": [address]})
    reach = Reach.of(["name.example"], [])
    with pytest.raises(HttpToolError, match="no public address"):
        asyncio.run(reach.addresses(reach.check("http://name.example/")))


def test_sizes_and_times_are_bounded(site: Site) -> None:
    """A long answer is cut and says so, a bomb never unfolds, an unknown packing is refused, silence ends."""
    assert get(site, site.url("/big"), max_bytes=1_000).endswith("xxx\n[cut: only the first 1,000 bytes were read]")
    assert get(site, site.url("/bomb"), max_bytes=1_000).endswith("only the first 1,000 bytes were read]")
    with pytest.raises(HttpToolError, match="packed as 'br'"):
        get(site, site.url("/odd"))
    with pytest.raises(HttpToolError, match=r"no whole answer within 0\.2 s"):
        get(site, site.url("/slow"), max_seconds=0.2)


def test_a_post_must_be_allowed_and_is_irreversible(site: Site) -> None:
    """By default there is no such tool; a redirect doesn't send it on."""
    assert [each.name for each in http_tools(["docs.python.org"])] == ["http_get"]
    reading, posting = http_tools([f"127.0.0.1:{site.port}"], methods=["GET", "POST"])
    assert (reading.irreversible, posting.irreversible) == (False, True)
    body = json.dumps({"a": 1})
    asyncio.run(posting.function(url=site.url("/in"), body=body))
    assert site.asked == [f"/in application/json {body}"]
    with pytest.raises(HttpToolError, match="only a GET is sent on"):
        asyncio.run(posting.function(url=site.url("/to//in"), body=body))
    with pytest.raises(HttpToolError, match="plain media type"):
        asyncio.run(posting.function(url=site.url("/in"), body=body, content_type="a\r\nX: y"))


def test_what_is_no_host_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that would mean all, or nothing, is not taken."""
    for hosts in (["*"], ["http://a.example/"], ["me@a.example"], ["a.example:port"], "a.example"):
        with pytest.raises(ConfigError):
            http_tools(hosts)
    with pytest.raises(ConfigError):
        http_tools(["a.example"], private=["10.0.0.0/99"])
    with pytest.raises(ConfigError):
        http_tools(["a.example"], methods=["DELETE"])
    monkeypatch.setattr("crew_guard.tools.http.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"crew-guard\[providers\]"):
        http_tools(["a.example"])


def look_up(monkeypatch: pytest.MonkeyPatch, names: dict) -> None:
    """Play the name server for these names."""

    def answer(host: str, port: int, *_: object, **__: object) -> list:
        found = names[host]
        addresses = found if isinstance(found, list) else next(found)
        families = [socket.AF_INET6 if ":" in each else socket.AF_INET for each in addresses]
        return [
            (family, socket.SOCK_STREAM, 6, "", (each, port)) for family, each in zip(families, addresses, strict=True)
        ]

    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *args, **kw: answer(host, *args, **kw) if host in names else real(host, *args, **kw),
    )
