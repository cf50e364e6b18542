"""A secret across the place where a text is cut is replaced whole: redaction comes first."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, Workflow, chain, node, tool
from crew_guard.core.events import ApprovalAsked
from crew_guard.core.plain import shown
from crew_guard.core.verdicts import Judge
from crew_guard.errors import StoreError
from crew_guard.supervisor.redaction import Redactor
from crew_guard.testing import MemoryStore, Reply, ScriptedModel
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


def half(secret: str, left: int, notice: str = "") -> str:
    """A text of which somebody left so many characters of a secret."""
    return f"{'word ' * 100}{secret[:left]}{notice}"


WORDS = """it's\\"quoted-pass"""
NOTICE = "\n[cut: 25,000 characters in all, 20,000 shown]"


@pytest.mark.parametrize("notice", ["", NOTICE, "… [cut: the first 500 of 9,000 characters]"])
@pytest.mark.parametrize(
    ("secret", "left"),
    [
        (KNOWN, 6),
        (KNOWN, len(KNOWN) - 1),
        ("sk-proj1234567890abcdefghij", 12),
        ("ghp_0123456789abcdefghijklmnopqrstuvwxyz", 30),
        ("AKIAABCDEFGHIJKLMNOP", 19),
        ("AIzaSy0123456789012345678901234567890123", 20),
        ("xoxb-1234567890-abc", 9),
        ("-----BEGIN RSA PRIVATE KEY-----", 20),
    ],
)
def test_the_first_half_of_a_secret_at_a_texts_end_is_replaced(secret: str, left: int, notice: str):
    """Whoever cut it; the notice of the cut stays."""
    assert Redactor((KNOWN,))(half(secret, left, notice)) == f"{'word ' * 100}[redacted]{notice}"


@pytest.mark.parametrize("end", ["a risk-free task", "sk-", KNOWN[:5], f"{KNOWN[:12]} and more", "gh pr list"])
def test_what_is_no_half_of_a_secret_stays(end: str):
    """Short pieces, words, and what goes on otherwise than the secret."""
    text = f"{'word ' * 100}{end}"
    assert Redactor((KNOWN,))(text) == text


@given(st.text(alphabet="abc-", min_size=8, max_size=20), st.integers(6, 20), st.text(alphabet="abc- ", max_size=30))
def test_any_half_is_found(secret: str, left: int, before: str):
    """Also where a secret repeats itself."""
    left = min(left, len(secret))
    text = f"{'word ' * 100}{before} {secret[:left]}"
    assert not Redactor((secret,))(text).endswith(secret[:left])


def test_the_log_names_an_observer_that_raised_without_its_secrets(monkeypatch: pytest.MonkeyPatch):
    """What it raised may have been what it could not log in with."""
    monkeypatch.setenv("MY_API_KEY", KNOWN)
    lines: list[str] = []

    def refused(*_: Any) -> None:
        raise ValueError(f"the server refused {KNOWN!r}")

    with logged_to(lines):
        Supervisor(store=MemoryStore(), observers=[refused]).run(chain(node(same)), run_id="r")
    told = "an observer of run r raised and is left out: ValueError: the server refused '[redacted]'\n"
    assert lines == [told]


def test_a_track_record_that_raises_is_told_without_its_secrets(monkeypatch: pytest.MonkeyPatch):
    """Neither in the log nor in the result: its address may hold a password."""
    monkeypatch.setenv("MY_API_KEY", KNOWN)
    lines: list[str] = []
    store = MemoryStore()

    def refuse(*_: Any) -> None:
        raise StoreError(f"no connection to db:{KNOWN}@here")

    monkeypatch.setattr(store.track_record(), "add", refuse)
    policy = Policy.model_validate({"reliability": {"threshold": 0.5}})
    with logged_to(lines):
        result = Supervisor(policy, store=store).run(chain(node(same)), run_id="r")
    assert result.reliability is not None
    assert result.reliability.problem == "no connection to db:[redacted]@here"
    assert lines == ["the reliability of run r is not kept: StoreError: no connection to db:[redacted]@here\n"]


@contextmanager
def logged_to(lines: list[str]) -> Generator[None]:
    """What the library logs meanwhile."""
    logger.enable("crew_guard")
    sink = logger.add(lines.append, level="WARNING", format="{message}")
    try:
        yield
    finally:
        logger.remove(sink)
        logger.disable("crew_guard")


QUOTES: list[Any] = [
    str,
    repr,
    lambda text: repr([text]),
    lambda text: repr({"password": text}),
    lambda text: repr(text.encode()),
    lambda text: str(KeyError(text)),
    lambda text: repr(ValueError(f"it's {text}")),
    lambda text: f'He said "{text}", {text!r}',
    json.dumps,
    lambda text: json.dumps(text, ensure_ascii=False),
]
QUOTABLE = "aä€\"'\\\n\t\x00\x7f"


@given(st.sampled_from(QUOTES), st.sampled_from(QUOTES), st.text(QUOTABLE, min_size=2, max_size=12))
def test_a_secret_is_found_however_it_is_quoted(inner: Any, outer: Any, odd: str):
    """As an exception, a container, its bytes or JSON shows it, also where that is quoted once more."""
    secret = f"Zq8{odd}hunter2"
    text = outer(inner(secret))
    assert "hunter2" in text
    assert "hunter2" not in Redactor((secret,))(text)


@pytest.mark.parametrize("quoted", [repr(WORDS), json.dumps(WORDS), repr(WORDS.encode())])
@pytest.mark.parametrize("left", [6, 12, 18])
def test_the_first_half_of_a_quoted_secret_is_replaced(quoted: str, left: int):
    """Where the text was cut after it was quoted."""
    at = quoted.index("it")
    text = half(quoted[at:], left)
    assert Redactor((WORDS,))(text) == half("", 0, "[redacted]")


def fails(size: int) -> Any:
    @tool
    def look() -> str:
        """Look."""
        raise ValueError(text(size))

    return look


def tells(size: int) -> Any:
    @tool
    def look() -> str:
        """Look."""
        return text(size)

    return look


@pytest.mark.parametrize("runtime", ["native", "crewai", "autogen", "langgraph", "llama-index"])
@pytest.mark.parametrize("made", [fails, tells])
def test_a_cut_result_of_a_tool_leaves_no_half_of_a_secret(made: Any, runtime: Any, monkeypatch: pytest.MonkeyPatch):
    """At every length around the cut, on every host."""
    monkeypatch.setenv("MY_API_KEY", KNOWN)
    cut = 2_000 if made is fails else 20_000
    pieces = [KNOWN[at : at + PIECE] for at in range(len(KNOWN) - PIECE + 1)]
    for beyond in (2, 20, 40):
        store = MemoryStore()
        script = ScriptedModel([Reply(tools=(("look", "{}"),)), "done"])
        crew = Crew(
            [Agent(Role(name="ann", goal="x"), [made(cut + beyond - len("look failed: ValueError: "))])], [Task("x")]
        )
        result = Supervisor(Policy(), model=script, store=store, runtime=runtime).run(crew, run_id="r")
        written = " ".join(map(repr, store.read("r")))
        assert result.done
        assert "x" * 1_000 in written
        assert [piece for piece in pieces if piece in written] == []
