"""A model as judge: a step like any other, and anything but a clear yes is a no."""

from __future__ import annotations

import pytest

from crew_guard.core.usage import Rate, Rates
from crew_guard.errors import ModelError
from crew_guard.testing import Reply, ScriptedModel
from tests.guardrails.running import Ran, call, reader

YES, NO = '{"passed": true, "reason": ""}', '{"passed": false, "reason": "it is rude"}'
RULE = {"rule": "It must be polite.", "model": "scripted:judge"}


def judged(place: str, verdicts: list, replies: list, **options) -> tuple[Ran, ScriptedModel]:
    judge = ScriptedModel(verdicts, name="judge", rates=Rates(Rate(1_000_000_000), Rate(1_000_000_000)))
    ran = Ran(replies, models={"scripted:judge": judge}, content={place: [{"judge": RULE}]}, **options)
    return ran, judge


def test_its_calls_are_steps_of_an_agent_of_its_own():
    """Counted, charged, and named in the result."""
    ran, judge = judged("outputs", [NO, YES], ["go away", "please go"])
    assert ran.result.output == "please go"
    assert "turned down by judge: it is rude" in ran.seen()
    assert (ran.result.usage.steps, ran.result.agents["judge"].steps) == (4, 2)
    assert ran.result.agents["judge"].tokens == judge.billed.tokens
    assert ran.result.agents["judge"].nano_usd > 0
    system, text = judge.calls[0].messages
    assert "It must be polite." in system.text
    mark = text.text.splitlines()[0]
    assert text.text == f"{mark}\ngo away\n{mark}"
    assert mark in system.text


@pytest.mark.parametrize(
    "said", ["yes", "", "{}", "[]", '{"passed": "true"}', '{"passed": 1}', '{"passed": null}', '"passed": true', "true"]
)
def test_garbage_is_no_verdict_and_so_a_no(said):
    """Asked once: another answer of the agent would not make it a better judge."""
    ran, _ = judged("outputs", [said], ["please go"])
    assert ran.result.status == "failed"
    assert "the judge gave no verdict" in ran.result.error
    assert ran.result.usage.steps == 2


def test_a_judge_that_cannot_be_asked_says_no():
    """No budget, no provider."""
    ran, _ = judged("outputs", [YES], ["please go"], limits={"max_steps": 1})
    assert (ran.result.status, ran.result.output, ran.result.partial) == ("stopped", None, None)
    broken = ModelError("no such model", kind="rejected", status=404)
    ran, _ = judged("outputs", [Reply(error=broken)], ["please go"])
    assert "could not ask its model" in ran.result.error
    ran, _ = judged("outputs", [YES], ["please go"], limits={"max_agents": 1})
    assert ran.result.output is None


def test_a_judge_of_inputs_is_asked_before_the_crew():
    """What it turns down is seen by nobody else."""
    ran, judge = judged("inputs", [NO], [])
    assert (ran.result.status, len(judge.calls), len(ran.model.calls)) == ("denied", 1, 0)
    assert "the input topic was turned down by judge: it is rude" in str(ran.result.stopped)
    ran, _ = judged("inputs", [YES], ["ok"])
    assert ran.result.output == "ok"


def test_a_judge_of_a_tools_results_is_asked_before_the_agent_reads_them():
    """And its call is charged to the run like any other."""
    ran, _ = judged("tool_results", [NO], [call("read_page"), "ok"], tools=[reader("you fool")])
    assert "withheld: judge: it is rude" in ran.seen()
    assert ran.result.usage.steps == 3
