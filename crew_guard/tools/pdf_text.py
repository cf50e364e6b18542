"""PDF files as pages of text; what can't be read says why."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from typing import Any

MAX_PAGES = 2_000
_LIBRARY = "pypdf"


class UnreadablePdfError(ValueError):
    """No text can be got out of it; the message is the reason."""


def pdf_pages(data: bytes, size: int) -> tuple[list[tuple[int, str]], str]:
    """([(page number from 1, its text)], what is missing or "").

    Args:
        data: the file, or as much of it as may be read
        size: the file's bytes
    Raises:
        UnreadablePdfError: it is broken, encrypted or scanned, or the library is not installed
    """
    if find_spec(_LIBRARY) is None:
        raise UnreadablePdfError("a PDF, which needs the extra 'pdf', pip install 'crew-guard[pdf]'")
    if size > len(data):
        raise UnreadablePdfError(f"a PDF of {size:,} bytes: at most {len(data):,} are read")
    with _silent():
        try:
            return _pages(data)
        except UnreadablePdfError:
            raise
        except Exception as error:  # noqa: BLE001  a broken file breaks the library in any way it likes
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise UnreadablePdfError(f"a broken PDF: {reason}") from None


def _pages(data: bytes) -> tuple[list[tuple[int, str]], str]:
    import pypdf
    from pypdf.errors import DependencyError

    reader = pypdf.PdfReader(BytesIO(data))
    try:
        # Many are encrypted with an empty password, so that they open but don't print.
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadablePdfError("an encrypted PDF: it needs a password")
    except (DependencyError, NotImplementedError):
        raise UnreadablePdfError("an encrypted PDF: its cipher needs the package 'cryptography'") from None
    total = len(reader.pages)
    texts = [(number, _text(reader.pages[number - 1])) for number in range(1, min(total, MAX_PAGES) + 1)]
    pages = [(number, text) for number, text in texts if text]
    if not pages:
        raise UnreadablePdfError("a PDF without text: scanned, it would have to be recognised first")
    missing: list[str] = []
    if total > MAX_PAGES:
        missing.append(f"cut: {total:,} pages, the first {MAX_PAGES:,} are read")
    if empty := len(texts) - len(pages):
        missing.append(f"{empty:,} of {total:,} pages have no text")
    return pages, "; ".join(missing)


def _text(page: Any) -> str:
    # Half a surrogate pair can't be written as UTF-8, and some fonts map to one.
    return str(page.extract_text()).encode(errors="replace").decode().replace("\0", "").strip()


@contextmanager
def _silent() -> Generator[None]:
    """The library warns of every oddity on stderr; what matters is told as a reason."""
    logger = logging.getLogger(_LIBRARY)
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before
