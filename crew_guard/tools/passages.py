"""Passages: the pieces of a corpus that are found, read and cited.

A file is cut at its headings, and where a section is long, between paragraphs: no passage is
much longer than PASSAGE_CHARS, so that a small model can read several.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from crew_guard.tools.html_text import html_lines

IN_ITS_MODULE, MEMBERS = "In its module's words: ", "Members: "
"""How the paragraphs of a symbol's passage begin that are not its own docstring's."""
PASSAGE_CHARS = 1500
"""The longest passage, in characters."""


@dataclass(frozen=True, slots=True)
class Facets:
    """A passage's words by what they are, for the index: a word of the summary says more than one of the body."""

    summary: str = ""
    signature: str = ""
    body: str = ""
    members: str = ""
    """Names of what it holds, e.g. a class's methods."""
    tasks: str = ""
    """What people use it for, in their own words; no part of its text."""
    context: str = ""
    """What it is a part of, in a sentence or two; no part of its text."""
    likely: float = 1.0
    """How likely it is what is asked for, besides its words, in (0, 1]."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text that can be cited."""

    id: str
    """Short and stable, e.g. subprocess.run or notes/gzip.md#3."""
    source: str
    """Where it comes from: a module, or a file's path below its folder."""
    title: str
    """Its headings, or the symbol it describes."""
    text: str
    symbol: str = ""
    """The Python symbol it describes; empty where it describes none."""
    kind: str = "text"
    """text; or module, class, exception, function, method, property."""
    aliases: tuple[str, ...] = ()
    """Other names of the symbol."""
    facets: Facets | None = None
    """Only while it is indexed; by default its first sentence is the summary, all of it the body."""


@dataclass(frozen=True, slots=True)
class Section:
    """The text below one heading."""

    title: str
    text: str


_ATX = re.compile(r"(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
_FRONT_MATTER = re.compile(r"---\n(.*?\n)---\n", re.DOTALL)
_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_UNDERLINE = re.compile(r"([=\-~^\"'`#*+.:_])\1{2,}[ \t]*$")
_SETEXT_LEVELS = {"=": 1, "-": 2}


def split_markdown(text: str) -> Iterator[Section]:
    """The sections of Markdown, each titled with the headings above it joined by ' > '."""
    yield from _sections(_markdown_lines(text))


def split_rst(text: str) -> Iterator[Section]:
    """The sections of reStructuredText; a heading's level is the order in which its underline first came."""
    yield from _sections(_rst_lines(text))


def split_html(text: str) -> Iterator[Section]:
    """The sections of HTML below its headings h1 to h6; scripts, styles and navigation are left out."""
    yield from _sections(html_lines(text))


def split_text(text: str) -> Iterator[Section]:
    """Plain text has no headings: one section."""
    yield Section("", text.strip())


_Line = tuple[int, str]
"""(heading level, heading), or (0, a line of text)."""


def _markdown_lines(text: str) -> Iterator[_Line]:
    if front := _FRONT_MATTER.match(text):
        yield from ((0, line) for line in front[1].splitlines())
        text = text[front.end() :]
    lines = text.splitlines()
    fence = ""
    for at, line in enumerate(lines):
        found = _FENCE.match(line)
        if fence or found:
            if found and not fence:
                fence = found[1]
            elif found and found[1].startswith(fence):
                fence = ""
            yield 0, line
        elif heading := _ATX.match(line):
            yield len(heading[1]), heading[2]
        elif level := _setext_level(line, lines[at + 1] if at + 1 < len(lines) else ""):
            yield level, line.strip()
        elif not (at and _setext_level(lines[at - 1], line)):
            yield 0, line


def _setext_level(line: str, below: str) -> int:
    """The level of a line that is a heading by what stands below it; 0 for any other."""
    text = line.strip()
    if not text or _ATX.match(line) or _FENCE.match(line) or _UNDERLINE.match(line) or not _UNDERLINE.match(below):
        return 0
    return _SETEXT_LEVELS.get(below[0], 0)


def _rst_lines(text: str) -> Iterator[_Line]:
    lines = text.splitlines()
    levels: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        below = lines[at + 1] if at + 1 < len(lines) else ""
        mark = _UNDERLINE.match(below)
        if mark and line.strip() and not _UNDERLINE.match(line) and len(below.rstrip()) >= len(line.rstrip()):
            if mark[1] not in levels:
                levels.append(mark[1])
            yield levels.index(mark[1]) + 1, line.strip()
            at += 2
        else:
            if not _UNDERLINE.match(line):
                yield 0, line
            at += 1


def _sections(lines: Iterator[_Line]) -> Iterator[Section]:
    headings: list[_Line] = []
    body: list[str] = []
    for level, line in lines:
        if not level:
            body.append(line)
            continue
        if any(part.strip() for part in body):
            yield _section(headings, body)
        headings = [*(heading for heading in headings if heading[0] < level), (level, line)]
        body = []
    if any(part.strip() for part in body):
        yield _section(headings, body)


def _section(headings: list[_Line], body: list[str]) -> Section:
    return Section(" > ".join(title for _, title in headings), "\n".join(body).strip("\n"))


def pieces(text: str, longest: int = PASSAGE_CHARS) -> Iterator[str]:
    """The text cut between paragraphs; a paragraph that is too long by itself between lines, then words.

    Args:
        longest: of a piece, in characters
    """
    held = ""
    for part in _parts(text, ("\n\n", "\n", " "), longest):
        if held and len(held) + len(part) > longest:
            yield held.strip("\n")
            held = ""
        held += part
    if held.strip():
        yield held.strip("\n")


def _parts(text: str, separators: tuple[str, ...], longest: int) -> Iterator[str]:
    if len(text) <= longest:
        if text.strip():
            yield text
        return
    if not separators:
        yield from (text[start : start + longest] for start in range(0, len(text), longest))
        return
    for part in re.split(f"(?<={separators[0]})(?!{separators[0][-1]})", text):
        yield from _parts(part, separators[1:], longest)


_SENTENCE = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"')\]]))\s+(?=[\"'(\[`*A-Z0-9])")
_ABBREVIATED = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|Mr|Dr|No)\.)$")


def sentences(text: str) -> list[str]:
    """The sentences of a passage, verbatim but for spaces: a paragraph's lines are joined."""
    found: list[str] = []
    for paragraph in re.split(r"\n[ \t]*\n", text):
        start = len(found)
        for part in _SENTENCE.split(" ".join(paragraph.split())):
            if len(found) > start and _ABBREVIATED.search(found[-1]):
                found[-1] = f"{found[-1]} {part}"
            elif part:
                found.append(part)
    return found


def first_sentence(text: str) -> str:
    """The first sentence of a text; empty where there is none."""
    return next(iter(sentences(text.lstrip().partition("\n\n")[0])), "")
