"""HTML as lines of text, by Python's own parser: it never fails, whatever the markup."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser

_SILENT = frozenset({"script", "style", "nav", "template", "noscript", "svg", "iframe", "select", "footer"})
_BLOCKS = frozenset(
    {"p", "div", "section", "article", "main", "header", "aside", "ul", "ol", "li", "dl", "dt", "dd", "table"}
    | {"thead", "tbody", "tr", "pre", "blockquote", "figure", "figcaption", "form", "fieldset", "details", "summary"}
    | {"hr", "br", "address", "body", "html"}
)
_GAPS = frozenset({"p", "section", "article", "ul", "ol", "dl", "table", "pre", "blockquote", "dt", "dd"})
_HEADINGS = {f"h{level}": level for level in range(1, 7)}


class _Lines(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[tuple[int, str]] = []
        self._held: list[str] = []
        self._silent: list[str] = []
        self._level = 0
        self._verbatim = 0
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        if tag in _SILENT:
            self._silent.append(tag)
        elif tag == "title":
            self._in_title = True
        elif tag in _HEADINGS:
            self.flush()
            self._level = _HEADINGS[tag]
        elif tag in _BLOCKS:
            self.flush(gap=tag in _GAPS)
            self._verbatim += tag == "pre"
        elif tag in ("td", "th"):
            self._held.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._silent:
            # An unclosed inner tag must not silence the rest of the page.
            del self._silent[self._silent.index(tag) :]
        elif tag == "title":
            self._in_title = False
        elif tag in _HEADINGS or tag in _BLOCKS:
            self.flush(gap=tag in _GAPS)
            self._verbatim -= tag == "pre" and self._verbatim > 0

    def handle_data(self, data: str) -> None:
        if not self._silent and not self._in_title:
            self._held.append(data)

    def flush(self, *, gap: bool = False) -> None:
        """End the line under way."""
        text = "".join(self._held)
        self._held = []
        if self._level:
            heading = " ".join(text.split()).rstrip("¶ ")
            if heading:
                self.lines.append((self._level, heading))
            self._level = 0
        elif self._verbatim:
            self.lines += [(0, line.rstrip()) for line in text.splitlines()]
        elif text := " ".join(text.split()):
            self.lines.append((0, text))
        if gap and self.lines and self.lines[-1] != (0, ""):
            self.lines.append((0, ""))


def html_lines(text: str) -> Iterator[tuple[int, str]]:
    """(heading level, heading), or (0, a line of text), in the page's order."""
    parser = _Lines()
    parser.feed(text)
    parser.close()
    parser.flush()
    yield from parser.lines
