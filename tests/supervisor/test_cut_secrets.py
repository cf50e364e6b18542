"""A secret across the place where a text is cut is replaced whole: redaction comes first."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, Workflow, chain, node
from crew_guard.core.events import ApprovalAsked
from crew_guard.core.plain import shown
from crew_guard.core.verdicts import Judge
from crew_guard.testing import MemoryStore, ScriptedModel
from crew_guard.workflows.graph import branch, loop

KNOWN = "Qz7-correct-horse-battery-staple-8812-abcdefgh"
PIECE = 12
"""Characters of the secret that must not be left."""


def same(value: Any) -> Any:
    return value


def text(length: int) -> str:
    """A text whose first so many characters end two before the secret's end."""
    return f"{'x' * (length - len(KNOWN) + 1)} {KNOWN}, and more"


def approval() -> Any:
    return chain(node(lambda _: text(500), name="write"), node(same, irreversible=True, approve=lambda _: True))


def odd_verdict() -> Any:
    return Crew([Agent(Role(name="ann", goal="x"))], [Task("x", name="a", verify=lambda *_: text(79))])


def odd_field() -> Any:
    return chain(node(same, verify=lambda _: text(79)))


def odd_loop() -> Any:
    steps = [node(lambda _: 1, name="m"), node(lambda _: 2, name="n")]
    return Workflow(steps, [("m", "n"), loop("n", "m", again=lambda _: text(79), rounds=2)])


def odd_branch() -> Any:
    def lies(_: Any) -> Literal["n", "o"]:
        return text(79)  # type: ignore[return-value]

    steps = [node(lies, name="m"), node(same, name="n"), node(same, name="o")]
    return Workflow(steps, [branch("m", {"n": "n", "o": "o"})])


def odd_approver() -> Any:
    return chain(node(same, irreversible=True, approve=lambda _: text(79)))


def judged() -> Any:
    return Crew(
        [Agent(Role(name="ann", goal="x"))], [Task("x", name="a", verify=Judge("Is it good?", max_tokens=2_000))]
    )


def guarded() -> Any:
    turned_down = (False, " ".join([KNOWN] * 60))
    return Crew([Agent(Role(name="ann", goal="x"))], [Task("x", name="a", guardrails=[lambda _: turned_down])])


@pytest.mark.parametrize("job", [approval, odd_verdict, odd_field, odd_loop, odd_branch, odd_approver, judged, guarded])
def test_no_piece_of_a_secret_is_left_where_a_text_was_cut(job: Any, monkeypatch: pytest.MonkeyPatch):
    """In the journal, the track record and the result."""
    monkeypatch.setenv("MY_API_KEY", KNOWN)

    def says(request: Any) -> str:
        asked = " ".join(message.text for message in request.messages)
        return msgspec.json.encode({"passed": False, "reason": text(300)}).decode() if "TEXT-" in asked else "good"

    store = MemoryStore()
    result = Supervisor(Policy(), model=ScriptedModel(says), store=store).run(job(), run_id="r")
    kept = store.track_record().run("r")
    written = " ".join(
        [*map(repr, store.read("r")), repr(None if kept is None else kept.report), result.error, str(result.stopped)]
    )
    pieces = [KNOWN[at : at + PIECE] for at in range(len(KNOWN) - PIECE + 1)]
    assert [piece for piece in pieces if piece in written] == []


def test_what_is_asked_about_is_cut_after_it_is_redacted(monkeypatch: pytest.MonkeyPatch):
    """So many characters, and how many there are."""
    monkeypatch.setenv("MY_API_KEY", KNOWN)
    store = MemoryStore()
    Supervisor(Policy(), store=store).run(approval(), run_id="r")
    asked = next(event for event in store.read("r") if isinstance(event, ApprovalAsked))
    assert asked.what.endswith(" [redacted], and more")


class Wordless:
    """Raises where it is looked at."""

    def __repr__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("value", "words"),
    [("yes", "'yes'"), ("x" * 78, f"'{'x' * 78}'"), ("x" * 79, "a long str"), (Wordless(), "a Wordless")],
)
def test_a_value_in_a_message_is_whole_or_only_named(value: Any, words: str):
    """A part of it might be most of a secret."""
    assert shown(value) == words
