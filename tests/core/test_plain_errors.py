"""Exceptions in words: whatever they are, saying what they are never raises."""

from __future__ import annotations

from typing import Any

import pytest

from crew_guard.core.plain import error_text, error_words


class _SlipError(Exception):
    def __str__(self) -> str:
        return f"code {self.reason}"  # type: ignore[attr-defined]


class _SilentError(Exception):
    def __str__(self) -> Any:
        return None  # noqa: PLE0307  that is the mistake


@pytest.mark.parametrize(
    ("error", "text", "words"),
    [
        (ValueError("no such row"), "no such row", "ValueError: no such row"),
        (KeyError("x"), "'x'", "KeyError: 'x'"),
        (ValueError(), "", "ValueError"),
        (_SlipError(), "", "_SlipError"),
        (_SilentError(), "", "_SilentError"),
    ],
    ids=["plain", "a look-up's", "silent", "its __str__ raises", "its __str__ gives no text"],
)
def test_an_exception_is_put_into_words(error: BaseException, text: str, words: str) -> None:
    """Its kind alone where nothing more can be had."""
    assert (error_text(error), error_words(error)) == (text, words)


def test_a_group_says_what_is_inside_of_it() -> None:
    """However deep, and whatever its parts are; of many only the first, and how many more there are."""
    inner = ExceptionGroup("inner", [KeyError("x"), _SlipError()])
    found = error_words(ExceptionGroup("outer", [ValueError("a"), inner]))
    assert found == "ExceptionGroup: outer (2 sub-exceptions): ValueError: a; KeyError: 'x'; _SlipError"
    many = error_text(ExceptionGroup("many", [ValueError(str(n)) for n in range(7)]))
    assert many.endswith("ValueError: 4; and 2 more")


def test_a_group_nested_without_an_end_is_no_trouble() -> None:
    """Deeper than Python's stack is."""
    error: Exception = ValueError("the bottom")
    for _ in range(5_000):
        error = ExceptionGroup("g", [error])
    assert error_words(error) == "ExceptionGroup: g (1 sub-exception): ValueError: the bottom"
