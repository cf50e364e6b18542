"""PDF files in a corpus: made here, byte by byte."""

from io import BytesIO
from pathlib import Path

import pypdf
import pytest

from crew_guard.errors import ConfigError
from crew_guard.tools.corpus import load_corpus


def pdf(*pages: str) -> bytes:
    """A PDF whose pages hold these texts; an empty one holds a drawing and no text."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, text in enumerate(pages):
        lines = "".join(f"({line}) Tj 0 -14 Td " for line in text.splitlines())
        stream = f"BT /F1 12 Tf 72 720 Td {lines}ET" if text else "0 0 100 100 re f"
        font = "/Resources << /Font << /F1 3 0 R >> >> /MediaBox [0 0 612 792]"
        objects.append(f"<< /Type /Page /Parent 2 0 R {font} /Contents {5 + 2 * number} 0 R >>")
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    trailer = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    return bytes(out) + (end + trailer).encode()


def locked(data: bytes, password: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=BytesIO(data))
    writer.encrypt(password, owner_password=f"{password}!", algorithm="RC4-128")
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def test_a_passage_of_a_pdf_names_its_page(tmp_path: Path) -> None:
    """Found by its words, cited by its page; a page without text is counted."""
    (tmp_path / "Report.PDF").write_bytes(pdf("Gophers dig tunnels.", "", "Herons eat fish.\nThey stand still."))
    corpus = load_corpus(tmp_path)
    passage = corpus.search("what do herons eat")[0].passage
    assert (passage.id, passage.source, passage.title) == ("Report.PDF#p3", "Report.PDF", "Report.PDF, page 3")
    assert "Herons eat fish." in corpus.read("Report.PDF#p3").text
    assert [(note.path, note.reason) for note in corpus.noted] == [("Report.PDF", "1 of 3 pages have no text")]
    assert corpus.files == 1


def test_a_long_page_gives_several_passages(tmp_path: Path) -> None:
    """The second part of page 1 is #p1.2."""
    lines = "\n".join(f"Line {number} says that herons stand still in water." for number in range(60))
    (tmp_path / "long.pdf").write_bytes(pdf(lines))
    corpus = load_corpus(tmp_path)
    assert len(corpus) > 1
    assert corpus.find("long.pdf#p1.2")


def test_a_pdf_locked_with_an_empty_password_is_read(tmp_path: Path) -> None:
    """As every viewer does."""
    (tmp_path / "open.pdf").write_bytes(locked(pdf("Herons eat fish."), ""))
    assert load_corpus(tmp_path).find("open.pdf#p1")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (locked(pdf("secret"), "hunter2"), "an encrypted PDF: it needs a password"),
        (pdf("", ""), "a PDF without text: scanned"),
        (b"%PDF-1.4\nnothing more", "a broken PDF: "),
        (b"", "a broken PDF: "),
        (pdf("x")[:200], "a broken PDF: "),
        (b"\0" * 1_000, "a broken PDF: "),
    ],
)
def test_a_pdf_that_cannot_be_read_is_listed_with_its_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    """Never silently left out, and no harm to the others."""
    (tmp_path / "bad.pdf").write_bytes(data)
    (tmp_path / "good.txt").write_text("Herons eat fish.")
    corpus = load_corpus(tmp_path)
    [skipped] = corpus.skipped
    assert skipped.path == "bad.pdf"
    assert skipped.reason.startswith(reason)


def test_without_the_library_the_reason_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of nothing but PDFs says how they could be read."""
    monkeypatch.setattr("crew_guard.tools.pdf_text.find_spec", lambda _: None)
    (tmp_path / "a.pdf").write_bytes(pdf("Herons"))
    with pytest.raises(ConfigError, match=r"pip install 'crew-guard\[pdf\]' \(e\.g\. a\.pdf\)"):
        load_corpus(tmp_path)
