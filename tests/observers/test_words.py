"""What events say to a person."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crew_guard.core.decisions import Stop
from crew_guard.core.events import (
    Admitted,
    AgentMoved,
    ApprovalAsked,
    ApprovalGiven,
    Asked,
    Compensated,
    Compensating,
    Event,
    FellBack,
    Judged,
    Latched,
    NodeFinished,
    NodeStarted,
    Queued,
    Refused,
    RunEnded,
    RunStarted,
    Settled,
    TakenOver,
)
from crew_guard.core.limits import NO_CAP, UNCAPPED, Caps
from crew_guard.core.usage import Usage
from crew_guard.observers.words import Teller, call_words, caps_words, clean, dollars, escaped, seconds

CAPS = Caps(NO_CAP, 25, 10, 20_000, 100_000_000)
START = RunStarted(1, 100.0, "research", "native", "strict ab12", {}, CAPS, CAPS._replace(agents=3), 60.0)
SHORT = Stop("limit", "tool:search", "max_tool_calls", 3, 3, 1)


def call(seq: int, kind: str, agent: str, target: str, **more) -> Admitted:
    return Admitted(seq, 100.5, f"a{seq}", kind, agent, target, "crew", Usage(), **more)


def told(*events: Event) -> list[str]:
    teller = Teller()
    return [str(line) for event in events if (line := teller.tell(event))]


def test_a_run_is_told_a_line_a_step():
    """Steps, refusals, waits, verdicts, the way back to the workflow and the end, with their reasons."""
    asked = (Asked("1", "search", '{"query": "gzip"}'), Asked("2", "read", '{"page": 3, "whole": true}'))
    lines = told(
        START,
        AgentMoved(2, 100.1, "researcher", "t", "think"),
        call(3, "model_call", "researcher", "embedded:smollm2"),
        Settled(4, 102.1, "a3", "ok", Usage(1, 0, 312, 48, 1_234_000), 1.6, tool_requests=asked),
        call(5, "tool_call", "researcher", "search", arguments='{"query": "gzip"}'),
        Settled(6, 102.2, "a5", "ok", Usage(tool_calls=1), 0.01, text="gzip\n\nSupport  for gzip files"),
        Queued(7, 102.3, "a8", "model_call", "writer", "openai:x", "crew", "run", "max_tokens"),
        call(8, "model_call", "writer", "openai:x", attempt=2),
        Settled(9, 103.0, "a8", "failed", Usage(1, 0, 9, 9), 0.5, text="the answer broke off"),
        Refused(10, 103.1, "a10", "tool_call", "researcher", "search", "crew", SHORT),
        Latched(11, 103.1, "tool:search", SHORT),
        Judged(12, 104.0, "writer", "brief", passed=False, reason="a quote is not in its source"),
        Judged(13, 104.0, "writer", "brief", passed=True),
        FellBack(14, 104.0, "a quote is not in its source"),
        NodeStarted(15, 104.0, "brief", "search"),
        NodeFinished(16, 104.1, "brief", "search"),
        NodeFinished(17, 104.1, "brief", "cite", "nothing to cite"),
        RunEnded(18, 105.0, "done", "workflow"),
    )
    assert lines == [
        (
            "   0.0s research     starts: policy strict ab12, "
            "at most 25 steps, 10 tool calls, 20,000 tokens, 3 agents, $0.10, 60s"
        ),
        (
            '   2.1s researcher   think → search("gzip"), read(page=3, whole=true)  '
            "embedded:smollm2 312+48 tokens, $0.001234  1.6s"
        ),
        '   2.2s researcher   search("gzip") → gzip Support for gzip files  0.01s',
        "   2.3s writer       waits for tokens of run that others hold",
        "   0.5s writer       asks openai:x again, attempt 2",
        "   3.0s writer       think failed: the answer broke off  openai:x 9+9 tokens  0.50s",
        "   3.1s researcher   refused search: max_tool_calls of tool:search: the cap is 3, 3 used, 1 more needed",
        "   3.1s tool:search  is stopped: max_tool_calls of tool:search: the cap is 3, 3 used, 1 more needed",
        "   4.0s writer       verdict on brief: failed: a quote is not in its source",
        "   4.0s writer       verdict on brief: passed",
        "   4.0s research     falls back to its workflow: a quote is not in its source",
        "   4.1s brief        search done",
        "   4.1s brief        cite failed: nothing to cite",
        "   5.0s research     done, by the workflow",
    ]


def test_a_workflows_nodes_are_told_where_they_say_something():
    """Tries, rounds, what was taken, questions and answers, and what was undone."""
    lines = told(
        START,
        NodeStarted(2, 100.0, "trip", "book"),
        NodeStarted(3, 100.0, "trip", "book", 2, 1, "no line"),
        NodeStarted(4, 100.0, "trip", "book", 1, 3),
        NodeFinished(5, 100.0, "trip", "read", taken_from="task_1"),
        ApprovalAsked(6, 100.0, "trip", "pay", "85 euros"),
        ApprovalGiven(7, 100.0, "trip", "pay", approved=True, by="ann"),
        ApprovalGiven(8, 100.0, "trip", "pay", approved=False, by="the terminal", reason="too dear"),
        Compensating(9, 100.0, "trip", "book"),
        Compensated(10, 100.0, "trip", "book"),
        Compensated(11, 100.0, "trip", "note", "closed"),
        TakenOver(12, 100.0, "trip", {"read": "", "book": "form"}, {"read": "x", "book": []}),
    )
    assert [line.split("trip", 1)[1].strip() for line in lines[1:]] == [
        "book again, attempt 2",
        "book, round 3",
        "read done, taken from task_1",
        "pay waits for approval: 85 euros",
        "pay approved by ann",
        "pay turned down by the terminal: too dear",
        "book is being undone",
        "book undone",
        "note could not be undone: closed",
        "goes on, done already: read, book",
    ]


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (RunEnded(2, 101.0, "stopped", stop=Stop("deadline", "run", "max_seconds", 60.0, 60.2)), "the cap is 60s"),
        (RunEnded(2, 101.0, "failed", error="KeyError: x"), "failed: KeyError: x"),
        (RunEnded(2, 101.0, "denied", stop=Stop("denied", "run", detail="search is denied")), "search is denied"),
    ],
)
def test_an_end_without_an_answer_says_why(end, words):
    """Its stop or its error is the line's text."""
    assert words in told(START, end)[-1]


def test_what_an_agent_does_follows_its_actions():
    """A tool's call, a model's name, a wait, and nothing once it is done."""
    teller = Teller()
    teller.tell(START)
    assert teller.doing("writer") == ""
    teller.tell(Queued(2, 100.0, "a3", "model_call", "writer", "m:x", "crew", "run", "tokens"))
    assert teller.doing("writer") == "waits for tokens"
    teller.tell(call(3, "model_call", "writer", "m:x"))
    assert teller.doing("writer") == "asks m:x"
    teller.tell(Settled(4, 101.0, "a3", "ok", Usage(1), 1.0))
    teller.tell(call(5, "tool_call", "writer", "read", arguments='{"page": 1}'))
    assert teller.doing("writer") == "read(1)"
    teller.tell(Settled(6, 101.0, "a5", "ok", Usage(), 1.0))
    teller.tell(AgentMoved(7, 101.0, "writer", "t", "finish"))
    assert teller.doing("writer") == "has finished"
    teller.tell(Latched(8, 101.0, "agent:writer", SHORT))
    assert teller.doing("writer") == "stopped"
    assert teller.agents() == ["writer"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;a new title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPsome device string\x1b\\rest", "rest"),
        ("a\rb\x08\x7f\x9b31m", "a b31m"),
        ("user\u202etxt.exe", "usertxt.exe"),
        ("  two\n\tlines  ", "two lines"),
        ("क्\u200dष", "क्\u200dष"),
        ("abcdefghij" * 4, "abcdefghijabcdefghijabcdefghi…"),
    ],
)
def test_text_cannot_steer_a_terminal(text, shown):
    """Escapes and controls go, scripts that need joiners stay, and a line has an end."""
    assert clean(text, 30) == shown


@given(st.text(), st.sampled_from([None, 20]))
def test_no_text_leaves_a_control_character(text, longest):
    """Whatever comes in, only newlines and tabs remain of the controls, and it can be encoded."""
    shown = clean(text, longest)
    assert not [char for char in shown if (ord(char) < 32 and char not in "\n\t") or 127 <= ord(char) < 160]
    shown.encode()
    assert longest is None or len(shown) <= longest


@given(st.text(st.characters()))
def test_escaped_text_leaves_no_control_character_and_loses_nothing(text):
    """Printable text stays as it is."""
    shown = escaped(text)
    assert clean(shown) == shown
    assert len(shown) >= len(text)
    assert shown == text or "\\" in shown


@given(st.text(), st.text())
def test_any_call_can_be_worded(tool, arguments):
    """What a model wrote as arguments need not be JSON."""
    assert "(" in call_words(tool, arguments)
    assert "(" in call_words(tool, json.dumps(arguments))


def test_figures_are_short():
    """Money shows digits that say something; nothing capped says so."""
    figures = (0, 5_000_000_000, 1_234_567_890_000, 12_345, 100_000)
    assert [dollars(n) for n in figures] == ["$0.00", "$5.00", "$1,234.57", "$0.0000123", "$0.0001"]
    assert [seconds(s) for s in (0.044, 3.21, 95.4)] == ["0.04s", "3.2s", "95s"]
    assert caps_words(UNCAPPED, None) == "no limits"
    assert caps_words(Caps(1, 0, NO_CAP, 1, NO_CAP), 1.5) == "0 steps, 1 token, 1 agent, 1.5s"
