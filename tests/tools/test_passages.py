"""How documents are cut into passages."""

from hypothesis import given
from hypothesis import strategies as st

from crew_guard.tools.passages import (
    PASSAGE_CHARS,
    first_sentence,
    pieces,
    sentences,
    split_html,
    split_markdown,
    split_rst,
)


def test_markdown_is_cut_at_its_headings() -> None:
    """Both kinds of heading count, a section is titled with those above it, and a fence hides a #."""
    text = "intro\n\n# One\nfirst\n```sh\n# no heading\n```\n## Two ##\nsecond\n\nThree\n-----\nthird\n"
    found = [(section.title, section.text) for section in split_markdown(text)]
    assert found == [
        ("", "intro"),
        ("One", "first\n```sh\n# no heading\n```"),
        ("One > Two", "second"),
        ("One > Three", "third"),
    ]


def test_front_matter_is_text_and_no_heading() -> None:
    """The line above the closing --- is not taken for a heading."""
    assert [section.title for section in split_markdown("---\ntitle: gzip\n---\n# One\ntext")] == ["", "One"]


def test_rst_levels_follow_the_order_of_underlines() -> None:
    """The second kind of underline is below the first; an overline is no text."""
    text = "====\nGzip\n====\nabout\n\nUsage\n-----\nrun it\n\nOther\n=====\nmore"
    assert [(section.title, section.text) for section in split_rst(text)] == [
        ("Gzip", "about"),
        ("Gzip > Usage", "run it"),
        ("Other", "more"),
    ]


def test_html_keeps_text_and_headings_only() -> None:
    """Scripts, styles and navigation are left out; entities are characters; <pre> keeps its lines."""
    text = (
        "<html><head><title>t</title><style>p{}</style></head><body><nav>menu</nav><h1>Gzip&para;</h1>"
        "<p>packs &lt;files&gt;<script>alert(1)</script> well</p><pre>a\n  b</pre></body></html>"
    )
    assert [(section.title, section.text) for section in split_html(text)] == [
        ("Gzip", "packs <files> well\n\na\n  b"),
    ]


def test_a_tag_that_is_never_closed_does_not_silence_the_page() -> None:
    """What follows the closing tag of the outer silent element is read."""
    assert [section.text for section in split_html("<nav><svg></nav><p>text")] == ["text"]


def test_long_text_is_cut_between_paragraphs() -> None:
    """No piece is too long, and no word is lost."""
    text = "\n\n".join(f"paragraph {number} " + "word " * 60 for number in range(20)) + "x" * 4000
    found = list(pieces(text))
    assert max(map(len, found)) <= PASSAGE_CHARS
    assert "".join("".join(found).split()) == "".join(text.split())


@given(st.text(alphabet="ab \n#=-.", max_size=300), st.integers(5, 40))
def test_pieces_hold_every_character_in_order(text: str, longest: int) -> None:
    """Whatever the text, its pieces are short enough and together hold all but the white space."""
    found = list(pieces(text, longest))
    assert all(len(piece) <= longest for piece in found)
    assert "".join("".join(found).split()) == "".join(text.split())


def test_sentences_stand_in_the_text_as_they_are() -> None:
    """White space aside each is verbatim; an abbreviation ends none."""
    text = 'Packs files, e.g. Logs. It is\nfast! (See "gzip".) Then\n\nA title\n'
    assert sentences(text) == ["Packs files, e.g. Logs.", "It is fast!", '(See "gzip".)', "Then", "A title"]
    assert first_sentence("\n One. Two.") == "One."
