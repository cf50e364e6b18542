"""Redaction of texts that arrive in pieces: however they are cut, no secret is shown."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crew_guard.supervisor.piecewise import PiecewiseRedactor
from crew_guard.supervisor.redaction import Redactor

KEYS = (
    "sk-proj-abcdefghij0123456789",
    "ghp_" + "a1B2" * 8,
    "AKIA" + "ABCDEFGH01234567",
    "xoxb-1234567890-abc",
    "AIza" + "x_-9A" * 7,
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nnever ends",
)
BAITS = ("s", "sk-", "task-", "AKIA", "AIza", "-----", "-----BEGIN ", "PRIVATE KEY-----", "-----END", "xox", "gh", "g")
WORDS = st.one_of(st.sampled_from(KEYS), st.sampled_from(BAITS), st.text("ab sk-_\n\u00e9", max_size=12))
SECRETS = st.lists(st.text("abc-s", min_size=3, max_size=9), max_size=4)


def cuts(text: str) -> st.SearchStrategy[list[str]]:
    """The text in pieces."""
    places = st.lists(st.integers(0, len(text)), max_size=12)
    return places.map(lambda found: [text[a:b] for a, b in pairwise([0, *sorted(found), len(text)])])


def streamed(redactor: Redactor, pieces: list[str]) -> str:
    piecewise = PiecewiseRedactor(redactor)
    return "".join([*map(piecewise.feed, pieces), piecewise.end()])


@given(st.data())
def test_pieces_joined_are_the_whole_text_redacted(data: st.DataObject) -> None:
    """Any text, any secrets, any cuts: what a reader joins is what the journal keeps."""
    redactor = Redactor(data.draw(SECRETS))
    words = [*data.draw(st.lists(WORDS, max_size=6)), *data.draw(st.permutations(redactor.secrets))]
    text = "".join(data.draw(st.permutations(words)))
    assert streamed(redactor, data.draw(cuts(text))) == redactor(text)


# A secret that the marker itself holds can't be hidden by it.
HIDEABLE = st.text(min_size=8, max_size=40).filter(
    lambda secret: not {"[", "]"} & set(secret) and "redacted" not in secret
)


@given(st.data(), HIDEABLE, st.text(max_size=30), st.text(max_size=30))
def test_no_cut_shows_a_secret(data: st.DataObject, secret: str, before: str, after: str) -> None:
    """The value of any secret is in no prefix of what was shown, wherever the text was cut."""
    redactor = Redactor([secret])
    piecewise, shown = PiecewiseRedactor(redactor), ""
    for piece in data.draw(cuts(before + secret + after)):
        shown += piecewise.feed(piece)
        assert secret not in shown
    shown += piecewise.end()
    assert secret not in shown
    assert shown == redactor(before + secret + after)


@pytest.mark.parametrize("key", KEYS)
def test_each_kind_of_key_is_hidden_letter_by_letter(key: str) -> None:
    """One character at a time, in the middle of a sentence."""
    text = f"the key is {key} and more"
    shown = streamed(Redactor([]), list(text))
    assert shown == Redactor([])(text)
    assert "[redacted]" in shown
    assert key not in shown


def test_ordinary_text_is_let_out_at_once() -> None:
    """Nothing of a plain sentence is kept back, word by word."""
    piecewise = PiecewiseRedactor(Redactor(["a-long-secret-value"]))
    words = ["The ", "quick ", "brown ", "fox. "]
    assert [piecewise.feed(word) for word in words] == words


def test_a_key_without_an_end_is_not_hoarded() -> None:
    """It is shown as redacted as soon as it is a key, and a million characters of it take no memory."""
    piecewise = PiecewiseRedactor(Redactor([]))
    shown = [piecewise.feed("sk-" + "a" * 16), *(piecewise.feed("a" * 1_000) for _ in range(1_000))]
    assert "".join(shown) == "[redacted]"
    assert len(piecewise._keys._held) < 100
    assert piecewise.feed(" and so on ") == " and so on "
