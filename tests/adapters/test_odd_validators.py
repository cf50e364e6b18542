"""Validators of users' models that raise what pydantic does not catch: the value does not fit, as with any other."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, chain, node, tool
from crew_guard.adapters.crewai.host_crew import CompiledRuntime
from crew_guard.testing import MemoryStore, Reply, ScriptedModel

NAMES = {"DE": "Germany"}


class Country(BaseModel):
    code: str

    @field_validator("code")
    @classmethod
    def _named(cls, code: str) -> str:
        return NAMES[code]


WRONG, RIGHT = '{"code": "XX"}', '{"code": "DE"}'


RUNTIMES = ["native", "crewai", "autogen", "langgraph", "llama-index"]


def supervisor(*said: Any, runtime: Any = "native") -> tuple[Supervisor, ScriptedModel]:
    model = ScriptedModel(list(said))
    return Supervisor(Policy(), model=model, store=MemoryStore(), runtime=runtime), model


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_answer_is_mended_whatever_its_validator_raised(runtime: Any) -> None:
    """The agent reads what was raised, and answers again."""
    guard, model = supervisor(WRONG, RIGHT, runtime=runtime)
    result = guard.run(Crew([Agent(Role(name="ann", goal="x"))], [Task("x", output=Country)]))
    assert result.output.code == "Germany"
    assert "the answer: KeyError: 'XX'" in model.calls[1].messages[-1].text


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_answer_that_is_never_mended_is_a_failed_trial(runtime: Any) -> None:
    """Its verdict is there, and what was said."""
    guard, _ = supervisor(WRONG, WRONG, WRONG, runtime=runtime)
    result = guard.run(Crew([Agent(Role(name="ann", goal="x"))], [Task("x", output=Country)]))
    assert (result.status, result.partial) == ("failed", WRONG)
    assert [(one.passed, one.reason) for one in result.verdicts] == [(False, "the answer: KeyError: 'XX'")]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_arguments_that_do_not_fit_are_told_whatever_their_validator_raised(runtime: Any) -> None:
    """No execution begins, and the agent goes on."""

    @tool
    def visit(where: Country) -> str:
        """Visit."""
        return f"saw {where.code}"

    asked = [Reply(tools=(("visit", f'{{"where": {code}}}'),)) for code in (WRONG, RIGHT)]
    model = ScriptedModel([*asked, "done"])
    guard = Supervisor(Policy(), model=model, store=MemoryStore(), runtime=runtime)
    result = guard.run(Crew([Agent(Role(name="ann", goal="x"), [visit])], [Task("x")]))
    assert (result.output, result.usage.tool_calls) == ("done", 1)
    assert "arguments of visit: KeyError: 'XX'" in model.calls[1].messages[-1].text
    assert model.calls[2].messages[-1].text == "saw Germany"


def test_a_nodes_answer_is_mended_whatever_its_validator_raised() -> None:
    """Asked again in the same words."""
    model = ScriptedModel([WRONG, RIGHT])
    workflow = chain(node(lambda _: "Which country?", name="ask", model=model, output=Country))
    result = Supervisor(Policy(), store=MemoryStore()).run(workflow)
    assert result.output.code == "Germany"
    assert "the answer: KeyError: 'XX'" in model.calls[1].messages[-1].text


def test_what_a_function_gives_does_not_fit_whatever_its_validator_raised() -> None:
    """The node has failed, in words."""
    result = Supervisor(Policy(), store=MemoryStore()).run(
        chain(node(lambda _: {"code": "XX"}, name="f", output=Country))
    )
    assert result.status == "failed"
    assert "what it gave: KeyError: 'XX'" in str(result.error)


def test_an_output_that_its_own_validators_cannot_read_again_reaches_crewais_listeners() -> None:
    """In the model's words; nothing fails behind the answer's back."""
    seen: list[Any] = []

    def listen(host: Any) -> None:
        host.task_callback = lambda output: seen.append(output.pydantic)

    crew = Crew([Agent(Role(name="ann", goal="x"))], [Task("x", output=Country)])
    model = ScriptedModel([RIGHT])
    runtime = CompiledRuntime(crew, lambda _: model, listeners=[listen])
    result = Supervisor(Policy(), store=MemoryStore()).run_runtime(runtime, {}, name="x").wait()
    assert result.output.code == "Germany"
    assert [one.code for one in seen] == ["Germany"]
