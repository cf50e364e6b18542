"""What the host adapters share."""

import asyncio
import subprocess
import sys

import pytest

from crew_guard.adapters import autogen, crewai
from crew_guard.adapters.hosted import Attempt, PromptCounter, ending, length_key, reported, speaks_of_length
from crew_guard.core.actions import ModelCall, Outcome
from crew_guard.core.messages import Message
from crew_guard.core.usage import FREE
from tests.adapters.guarding import ByteFacts
from tests.supervisor.gates import gate_for


def with_status(status):
    error = RuntimeError("no")
    error.status_code = status
    return error


def wrapped(error):
    outer = ValueError("the host's words")
    outer.__cause__ = error
    return outer


def unencodable(text):
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (with_status(429), "rejected"),
        (wrapped(with_status(404)), "rejected"),
        (with_status(503), "failed"),
        (wrapped(ConnectionRefusedError()), "rejected"),
        (unencodable("a lone surrogate: \udcff"), "rejected"),
        (TimeoutError(), "failed"),
        (asyncio.CancelledError(), "cancelled"),
        (ValueError(), "failed"),
    ],
)
def test_only_what_cannot_have_made_tokens_is_rejected(error, expected):
    """A 4xx, a failed connect and a request that can't be encoded cost a step; anything else may have been billed."""
    assert ending(error) == expected


def test_the_error_of_an_earlier_call_is_not_this_ones():
    """A broken read while an earlier 429 is being handled may have been billed."""
    error = OSError("connection reset")
    error.__context__ = with_status(429)
    assert ending(error) == "failed"


def test_a_message_is_counted_once_however_often_it_is_sent():
    """The bound of a message is kept by its parts, not made again each turn."""
    facts = ByteFacts()
    counter = PromptCounter(facts)
    content = "hello"
    first = counter.message(("user", content), lambda: [Message("user", content)])
    assert counter.message(("user", content), lambda: [Message("user", content)]) == first
    assert facts.counted == 1


def test_messages_that_are_gone_lend_their_ids_to_nobody():
    """The parts are kept: another message never finds the count of one that was freed."""
    counter = PromptCounter(ByteFacts())
    bounds = [counter.message((text := "x" * n,), lambda text=text: [Message("user", text)]) for n in range(1, 500)]
    assert bounds == sorted(set(bounds))


def test_no_usage_is_not_free():
    """0 and 0 is how hosts say that the provider reported nothing, and no request has a prompt of 0."""
    assert reported(0, 0) is reported(0, 20) is None
    assert reported(5, 0).input_tokens == 5


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ("openai:gpt-4.1", "max_tokens"),
        ("o3-mini", "max_completion_tokens"),
        ("openai/gpt-5-nano", "max_completion_tokens"),
        ("azure:o4-mini", "max_completion_tokens"),
        ("gpt-4o", "max_tokens"),
    ],
)
def test_reasoning_models_have_another_word_for_length(model, key):
    """The o-series and gpt-5 turn max_tokens down."""
    assert length_key(model) == key


class Heeds:
    def create(self, options):
        def inner():
            return options.get("max_tokens")

        return inner()


class HeedsByKeyword:
    def create(self):
        return dict(max_tokens=5)  # noqa: C408  the keyword is the point


class Inherits(Heeds):
    pass


class Heedless:
    def create(self, options):
        return options


@pytest.mark.parametrize(
    ("kind", "expected"), [(Heeds, True), (HeedsByKeyword, True), (Inherits, True), (Heedless, False)]
)
def test_a_class_that_never_speaks_of_a_length_cannot_keep_to_one(kind, expected):
    """Its own code is read, nested functions, keywords and the user's base classes included."""
    assert speaks_of_length(kind, frozenset({"builtins"})) is expected


@pytest.mark.parametrize("adapter", [autogen, crewai])
def test_other_objects_are_not_accepted(adapter):
    """An adapter takes its own host's objects only."""
    assert not any(map(adapter.accepts, (None, "agent", object(), Heeds(), adapter)))


@pytest.mark.parametrize(("adapter", "host"), [("autogen", "autogen_core"), ("crewai", "crewai")])
def test_an_adapter_is_imported_without_its_host(adapter, host):
    """crewai takes seconds: nobody pays for it who doesn't use it."""
    code = f"import sys, crew_guard.adapters.{adapter} as a; a.accepts(1); print({host!r} in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


def test_an_outage_that_a_host_meets_is_told_to_the_gate():
    """It is nobody's failed trial; the next answer says that the provider is there again."""
    gate = gate_for()

    def attempt() -> Attempt:
        return Attempt(gate, gate.admit_blocking(ModelCall("ann", "p:m", 1, rates=FREE)))

    attempt().fail(with_status(429))
    attempt().fail(wrapped(with_status(503)))
    assert (gate.keeper.faults, gate.keeper.outage) == (2, True)
    attempt().fail(asyncio.CancelledError())
    assert gate.keeper.outage
    attempt().settle(Outcome("ok"))
    attempt().fail(with_status(400))
    assert (gate.keeper.faults, gate.keeper.outage) == (2, False)
