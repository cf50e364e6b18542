"""The account of a run, and the answer as people read it."""

from __future__ import annotations

import io

import pytest
from pydantic import BaseModel

from crew_guard.cli.summary import answer_text, print_summary
from crew_guard.core.decisions import Stop
from crew_guard.core.events import Judged
from crew_guard.core.limits import NO_CAP, Caps
from crew_guard.core.result import Result
from crew_guard.core.usage import Usage


class Page(BaseModel):
    title: str
    words: int


class Note(BaseModel):
    claim: str
    quote: str
    source: str


class Answered(BaseModel):
    question: str
    answer: str
    findings: list[Note]


def shown(result: Result) -> str:
    stream = io.StringIO()
    print_summary(result, stream, None)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("plain\x1b[2J text\n", "plain text"),
        (None, ""),
        (Page(title="\u00fc", words=3), '{\n  "title": "\u00fc",\n  "words": 3\n}'),
        ([1, 2], "[\n  1,\n  2\n]"),
        (
            Answered(question="?", answer="Use it.", findings=[Note(claim="c", quote="q1\nq2", source="gzip.open")]),
            "Use it.\n\n1. c\n   > q1\n   > q2\n   gzip.open",
        ),
        ({"answer": "a", "findings": ["loose", {"claim": "c"}]}, "a\n\n1. loose\n\n2. c"),
    ],
)
def test_an_answer_is_readable(output, text):
    """Briefs with their findings, text as it is without escapes, the rest as JSON."""
    assert answer_text(output) == text


def test_a_finished_run_says_what_it_cost():
    """Each limit beside its cap; what was billed beyond, charged blindly or left behind is not hidden."""
    text = shown(
        Result(
            "r1",
            "done",
            "yes",
            "workflow",
            usage=Usage(3, 1, 1000, 200, 30_000_000, 2),
            caps=Caps(2, 3, NO_CAP, 20_000, 100_000_000),
            fell_back="no quote",
            overshoot=Usage(output_tokens=7),
            unreported=2,
            late=("writer/search",),
            verdicts=(Judged(1, 0.0, "writer", "t", passed=False, reason="no quote"),),
            seconds=2.5,
            max_seconds=60,
        )
    )
    rows = {tuple(line.split()) for line in text.splitlines()}
    assert {("steps", "3", "3"), ("tokens", "1,200", "20,000"), ("money", "$0.03", "$0.10")} <= rows
    assert {("tool", "calls", "1", "none"), ("time", "2.5s", "60s")} <= rows
    assert "because the crew did not: no quote" in text
    assert "writer, t: failed: no quote" in text
    assert "Billed beyond what was reserved: 7 tokens" in text
    assert "2 model calls named no usage" in text
    assert "Could not be ended in time: writer/search" in text


def test_a_stopped_run_never_looks_like_an_answer():
    """It says so first, and what there was is marked as unfinished."""
    stop = Stop("limit", "run", "max_tokens", 8000, 7990, 400)
    text = shown(Result("r1", "stopped", stopped=stop, partial="half a", fell_back="why"))
    assert text.startswith("No answer. max_tokens of run: the cap is 8,000, 7,990 used, 400 more needed")
    assert text.index("unfinished and unchecked") < text.index("half a")
    assert "its workflow did not either" in text


def test_what_a_workflow_left_is_told_beside_the_limit_that_stopped_its_crew():
    """The stop alone would hide that something stands which nobody undid; a failure that is a stop is told once."""
    stop = Stop("limit", "crew", "max_steps", 1, 1, 1)
    text = shown(Result("r1", "stopped", stopped=stop, error="the workflow trip: node 'pay': OSError: declined"))
    assert "1 more needed; the workflow trip: node 'pay': OSError: declined" in text
    failed = Stop("failed", "run", detail="no journal")
    assert shown(Result("r1", "failed", stopped=failed, error="no journal")).startswith("No answer. No journal\n")
