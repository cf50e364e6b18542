"""The verifier: a quote stands in its source or it doesn't."""

from pathlib import Path
from typing import Any

import pytest

from crew_guard.core.roles import TaskContext
from crew_guard.crews.brief import Brief, Finding, brief_verifier, check_brief, notes_verifier
from crew_guard.tools.corpus import Corpus
from crew_guard.tools.index import Index
from crew_guard.tools.passages import Passage

QUOTE = "If the process takes too long, it is killed."
CORPUS = Corpus(
    "test",
    Index.build(
        [
            Passage(
                "sub.run",
                "sub",
                "sub.run",
                "sub.run(a)\n\nRun it.  If the process takes\ntoo long, it is killed.",
                "sub.run",
            ),
            Passage("sub.call", "sub", "sub.call", "sub.call(a)\n\nCall it and wait until it ends.", "sub.call"),
            Passage("notes/a.md#1", "notes/a.md", "A", "Gzip packs files one by one."),
        ]
    ),
)


def brief(**changes: Any) -> Brief:
    finding = {"claim": "It is killed", "quote": QUOTE, "source": "sub.run"} | changes.pop("finding", {})
    return Brief.model_validate(
        {"question": "What if it takes long?", "answer": "sub.run kills it [sub.run]", "findings": [finding]} | changes
    )


def test_a_quote_may_differ_in_white_space_only() -> None:
    """Line breaks and double spaces of the source don't matter."""
    assert check_brief(brief(), CORPUS).passed


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"finding": {"quote": QUOTE.replace("killed", "spared")}}, "finding 1: its quote does not stand in sub.run"),
        ({"finding": {"quote": QUOTE.upper()}}, "finding 1: its quote does not stand in sub.run"),
        ({"finding": {"source": "sub.call"}}, "finding 1: its quote does not stand in sub.call"),
        ({"finding": {"source": "sub.walk"}}, "finding 1: its source 'sub.walk' is no passage of test"),
        ({"finding": {"source": ""}}, "finding 1: its source '' is no passage of test"),
        ({"finding": {"quote": " \n "}}, "finding 1: it quotes nothing from sub.run"),
        ({"finding": {"quote": "it is killed."}}, "finding 1: its quote is too short to prove anything"),
        ({"finding": {"claim": " "}}, "finding 1: it claims nothing"),
        ({"findings": []}, "it has no findings: every claim must cite a passage"),
        ({"answer": ""}, "its answer is empty"),
        ({"answer": "Better use sub.call"}, "its answer refers to 'sub.call', which no finding cites"),
        ({"answer": "Packed [notes/a.md#1]"}, "its answer refers to 'notes/a.md#1', which no finding cites"),
        ({"answer": "See [notes/b.md#9]"}, "its answer refers to 'notes/b.md#9', which no finding cites"),
    ],
)
def test_each_fault_is_named(changes: dict[str, Any], reason: str) -> None:
    """In words that a person understands, with the finding's number."""
    verdict = check_brief(brief(**changes), CORPUS)
    assert not verdict.passed
    assert reason in verdict.reason


def test_a_whole_line_may_be_short() -> None:
    """A signature is evidence however short it is."""
    assert check_brief(brief(finding={"quote": "sub.run(a)"}), CORPUS).passed


def test_all_faults_are_told_at_once() -> None:
    """One a line, so that a model can mend them together."""
    verdict = check_brief(brief(answer="", finding={"source": "x", "claim": ""}), CORPUS)
    assert len(verdict.reason.splitlines()) == 3


def test_an_answer_may_name_the_module_above_and_what_a_quote_names() -> None:
    """They are not references of their own."""
    assert check_brief(brief(answer="sub.run of the module sub, list[str], e.g. other.name"), CORPUS).passed


def test_a_brief_answers_the_question_that_was_asked() -> None:
    """Case, punctuation and phrasing aside."""
    verify = brief_verifier(CORPUS)
    assert verify(brief(), TaskContext({"question": "And what if it takes so long"}, {}))
    other = verify(brief(), TaskContext({"question": "What is gzip?"}, {}))
    assert "but 'What is gzip?' was asked" in str(other)


def test_notes_must_name_a_passage() -> None:
    """Notes without a source are nothing to write from."""
    verify = notes_verifier(CORPUS)
    context = TaskContext({}, {})
    assert verify("- [notes/a.md#1]: Gzip packs files.", context).passed  # type: ignore[union-attr]
    assert not verify("Gzip packs files.", context).passed  # type: ignore[union-attr]


def test_a_corpus_of_a_folder_is_verified_alike(tmp_path: Path) -> None:
    """The source is a file's passage."""
    from crew_guard.tools.corpus import load_corpus

    (tmp_path / "a.md").write_text("# A\nGzip packs files one by one.")
    good = Brief(
        question="q",
        answer="It packs [a.md#1]",
        findings=[Finding(claim="c", quote="Gzip packs files one by one.", source="a.md#1")],
    )
    assert check_brief(good, load_corpus(tmp_path)).passed
