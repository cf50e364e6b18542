"""Tools that ask the web: a list of hosts, each hop of a redirect checked, nothing private, bounded in size and time.

A name is looked up once, and the connection goes to the address that was checked: an answer of the
name server that changes between the check and the call reaches nothing.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args
from urllib.parse import urljoin

from crew_guard.core.given import listed, must_be_number, must_be_one_of, must_be_whole, several
from crew_guard.core.tools import Tool, tool
from crew_guard.errors import ConfigError, MissingDependencyError
from crew_guard.tools.addresses import HttpToolError, Reach, Target
from crew_guard.tools.html_text import html_lines

if TYPE_CHECKING:
    import httpx2

Method: TypeAlias = Literal["GET", "POST"]
MAX_HOPS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_BAD = 400
_TRIED_ADDRESSES = 3
_TEXT = ("text/", "application/json", "application/xml", "application/javascript", "application/yaml")
_ENCODINGS = ("", "identity", "gzip", "deflate")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a host said."""

    url: str
    status: int
    kind: str
    """Its content type, without parameters."""
    charset: str
    data: bytes
    cut: bool


@dataclass(frozen=True, slots=True)
class Asker:
    """Makes requests within its reach."""

    reach: Reach
    max_bytes: int
    max_seconds: float

    async def ask(self, method: Method, url: str, body: str = "", kind: str = "") -> str:
        """One request, its redirects followed for GET, as text.

        Raises:
            HttpToolError: it was not allowed, or came to nothing
        """
        import httpx2

        try:
            async with asyncio.timeout(self.max_seconds):
                answer = await self._follow(method, url, body, kind)
        except TimeoutError:
            raise HttpToolError(f"no whole answer within {self.max_seconds:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, zlib.error) as error:
            raise HttpToolError(f"{type(error).__name__}: {error}"[:500]) from None
        text = _text(answer)
        if answer.status >= _BAD:
            raise HttpToolError(f"{answer.url} answered {answer.status}: {text[:2_000]}")
        return f"{answer.url} ({answer.kind or 'no content type'})\n\n{text}"

    async def _follow(self, method: Method, url: str, body: str, kind: str) -> Answer:
        target = self.reach.check(url)
        for _ in range(MAX_HOPS + 1):
            answer = await self._once(method, target, body, kind)
            if isinstance(answer, Answer):
                return answer
            if method != "GET":
                raise HttpToolError(f"{target.url} redirects to {answer[:200]}: only a GET is sent on")
            further = self.reach.check(urljoin(target.url, answer))
            if target.scheme == "https" and further.scheme != "https":
                raise HttpToolError(f"{target.url} redirects to {further.url[:200]}, which is not encrypted")
            target = further
        raise HttpToolError(f"more than {MAX_HOPS} redirects")

    async def _once(self, method: Method, target: Target, body: str, kind: str) -> Answer | str:
        """The answer, or where it redirects to."""
        import httpx2

        addresses = (await self.reach.addresses(target))[:_TRIED_ADDRESSES]
        for number, address in enumerate(addresses, 1):
            try:
                return await self._connect(method, target, address, {"body": body, "kind": kind})
            except httpx2.ConnectError:
                if number == len(addresses):
                    raise
        raise AssertionError("there is at least one address")

    async def _connect(self, method: Method, target: Target, address: str, sent: Mapping[str, str]) -> Answer | str:
        import httpx2

        place = f"[{address}]" if ":" in address else address
        headers = {
            "Host": target.netloc,
            "User-Agent": f"crew-guard/{version('crew-guard')}",
            "Accept-Encoding": "gzip, deflate",
        }
        if method == "POST":
            headers["Content-Type"] = sent["kind"]
        # The certificate is checked against the name, though the URL holds the address that was checked.
        extensions = {"sni_hostname": target.host} if target.scheme == "https" else {}
        async with (
            httpx2.AsyncClient(verify=_certificates(), trust_env=False, timeout=self.max_seconds) as client,
            client.stream(
                method,
                f"{target.scheme}://{place}:{target.port}{target.rest}",
                headers=headers,
                content=sent["body"].encode() if method == "POST" else None,
                extensions=extensions,
            ) as response,
        ):
            location = response.headers.get("location")
            if response.status_code in _REDIRECTS and location:
                return location
            data = await _read(response, self.max_bytes)
            kind, _, _ = response.headers.get("content-type", "").partition(";")
            charset = response.charset_encoding or "utf-8"
            cut = len(data) > self.max_bytes
            shown = data[: self.max_bytes]
            return Answer(target.url, response.status_code, kind.strip().lower(), charset, shown, cut)


def http_tools(
    hosts: Sequence[str],
    *,
    methods: Sequence[Method] = ("GET",),
    private: Sequence[str] = (),
    max_bytes: int = 1_000_000,
    max_seconds: float = 20.0,
) -> tuple[Tool, ...]:
    """The tools http_get and, where allowed, http_post.

    Args:
        hosts: names, or patterns such as *.python.org, with :port where it is not 80 or 443; an
            address that is listed may be private
        methods: GET, POST; a POST is irreversible
        private: networks such as 10.0.0.0/8 that may be reached though they are not public
        max_bytes: of an answer; the rest is left out
        max_seconds: of a request, its redirects included
    Raises:
        ConfigError: an entry is not a host, a network or a method
        MissingDependencyError: the HTTP client is not installed
    """
    several(hosts, str, "the hosts of http_tools", "a host such as docs.python.org", ConfigError)
    several(private, str, "the private networks of http_tools", "a network such as 10.0.0.0/8", ConfigError)
    for method in listed(methods, "the methods of http_tools", error=ConfigError):
        must_be_one_of(method, get_args(Method), "each of the methods of http_tools", ConfigError)
    must_be_whole(max_bytes, "http_tools: max_bytes", error=ConfigError)
    must_be_number(max_seconds, "http_tools: max_seconds", "seconds, more than 0", lambda each: each > 0, ConfigError)
    try:
        reach = Reach.of(hosts, private)
    except ValueError as error:
        raise ConfigError(f"http_tools: {error}") from None
    if find_spec("httpx2") is None:
        raise MissingDependencyError("the HTTP tools", "providers")
    made = _tools(Asker(reach, max_bytes, max_seconds))
    return tuple(made[method] for method in ("GET", "POST") if method in methods)


def _tools(asker: Asker) -> dict[str, Tool]:
    @tool
    async def http_get(url: str) -> str:
        """Get a page from the web, as text."""
        return await asker.ask("GET", url)

    @tool(irreversible=True)
    async def http_post(url: str, body: str, content_type: str = "application/json") -> str:
        """Send a body to a URL by POST, and get its answer as text."""
        if not content_type.isprintable() or not content_type.isascii():
            raise HttpToolError("content_type must be a plain media type, e.g. application/json")
        return await asker.ask("POST", url, body, content_type)

    return {"GET": http_get, "POST": http_post}


async def _read(response: httpx2.Response, max_bytes: int) -> bytes:
    """The body up to one byte more than it may have, unpacked as it comes: a bomb never unfolds."""
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in _ENCODINGS:
        raise HttpToolError(f"the answer is packed as {encoding[:50]!r}, which was not asked for")
    chunks: AsyncIterator[bytes] = response.aiter_raw()
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32) if encoding in ("gzip", "deflate") else None
    data = bytearray()
    async for chunk in chunks:
        left = max_bytes + 1 - len(data)
        data += chunk[:left] if unpack is None else unpack.decompress(chunk, left)
        if len(data) > max_bytes:
            break
    return bytes(data)


def _text(answer: Answer) -> str:
    is_html = answer.kind in ("text/html", "application/xhtml+xml")
    if not is_html and answer.kind and not (answer.kind.startswith(_TEXT) or answer.kind.endswith(("+json", "+xml"))):
        return f"[{answer.kind}, {len(answer.data):,} bytes: not text]"
    try:
        text = answer.data.decode(answer.charset, errors="replace")
    except LookupError:
        text = answer.data.decode(errors="replace")
    if is_html:
        text = "\n".join(f"{'#' * level} {line}" if level else line for level, line in html_lines(text))
    return f"{text}\n[cut: only the first {len(answer.data):,} bytes were read]" if answer.cut else text


@cache
def _certificates() -> Any:
    import httpx2

    return httpx2.create_ssl_context()
