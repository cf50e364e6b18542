"""What every runtime must do with verdicts: hear verifiers, ask judges, keep trials, route and stop by reliability.

A part of RuntimeContract, which says how to subclass it.
"""

# ruff: noqa: S101 - these are tests, though they ship in the package

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, cast

import pytest

from crew_guard.api import Supervisor
from crew_guard.core.policy import Policy
from crew_guard.core.reliability.trials import END_TO_END
from crew_guard.core.result import Result
from crew_guard.core.roles import Agent, Crew, Task, TaskContext, Verdict
from crew_guard.core.tools import tool
from crew_guard.core.verdicts import Judge
from crew_guard.models.scripted import Reply, ScriptedModel
from crew_guard.ports import Gate, RuntimeResult, Store
from crew_guard.testing.crews import ANN, BOB, Answer
from crew_guard.workflows.graph import chain, node


class FromDone:
    """A workflow that goes on from what is done, and remembers what that was."""

    name = "fixed path"

    def __init__(self) -> None:
        self.done: Mapping[str, Any] | None = None

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        """Begin at the beginning."""
        return await self.resume(inputs, gate, {})

    async def resume(self, inputs: Mapping[str, Any], gate: Gate, done: Mapping[str, Any]) -> RuntimeResult:
        """Go on."""
        del inputs, gate
        self.done = done
        return RuntimeResult("from the workflow")


def fine(_output: Any, _context: TaskContext) -> bool:
    """Accept anything."""
    return True


def so_so(_output: Any, _context: TaskContext) -> float:
    """Accept anything, with little conviction."""
    return 0.6


def fixed(_: Any) -> str:
    """Do the job without agents."""
    return "from the workflow"


def judged_pair(find: Any = fine, write: Any = fine, **crew: Any) -> Crew:
    """Two agents with a verdict on each task."""
    tasks = [
        Task("Find out.", "ann", name="find", verify=find),
        Task("Write it up.", "bob", name="write", verify=write),
    ]
    return Crew([Agent(ANN), Agent(BOB)], tasks, **crew)


def asked(**reliability: Any) -> Policy:
    """A policy that asks for this much."""
    return Policy.model_validate({"reliability": reliability})


class VerdictContract(ABC):
    """How a runtime takes part in what is judged."""

    @abstractmethod
    def run(self, crew: Crew, model: ScriptedModel, rules: Policy | None = None, **inputs: Any) -> Result:
        """Run a crew of ours on this runtime."""

    @abstractmethod
    def supervisor(self, model: ScriptedModel, rules: Policy | None = None) -> Supervisor:
        """A supervisor that runs crews here, its journals in memory."""

    def test_an_async_verifier_is_awaited_and_its_grade_kept(self) -> None:
        """It may look elsewhere meanwhile."""

        async def look(output: Any, context: TaskContext) -> float:
            await asyncio.sleep(0)
            return 0.75 if output == "notes" and dict(context.inputs) == {"topic": "rivers"} else 0.0

        result = self.run(judged_pair(find=look), ScriptedModel(["notes", "text"]), topic="rivers")
        assert result.output == "text"
        assert [(one.agent, one.task, one.passed, one.grade) for one in result.verdicts] == [
            ("ann", "find", True, 0.75),
            ("bob", "write", True, None),
        ]

    @pytest.mark.parametrize("gives", [None, 1.7, ValueError("no such file")])
    def test_a_verifier_without_a_verdict_has_not_said_yes(self, gives: Any) -> None:
        """Nothing, 1.7 or an exception: the task is not passed, and the result says why."""

        def odd(_output: Any, _context: TaskContext) -> Any:
            if isinstance(gives, Exception):
                raise gives
            return gives

        result = self.run(judged_pair(find=odd), ScriptedModel(["notes"]))
        assert (result.status, [one.passed for one in result.verdicts]) == ("failed", [False])
        told = "raised ValueError: no such file" if isinstance(gives, Exception) else "expected True, False, a grade"
        assert told in result.error

    def test_a_judge_is_asked_through_the_gate(self) -> None:
        """A step of its own, charged to it; its word is the verdict."""
        judge = Judge("It must be about rivers.", name="critic")
        replies = ["notes", '{"passed": true, "reason": "it is"}', "text", '{"passed": false, "reason": "it is not"}']
        model = ScriptedModel(replies)
        result = self.run(judged_pair(find=judge, write=judge), model)
        assert [(one.passed, one.source, one.reason) for one in result.verdicts] == [
            (True, "judge", "it is"),
            (False, "judge", "it is not"),
        ]
        assert (result.agents["critic"].steps, result.usage.steps) == (2, 4)
        assert result.usage.tokens == model.billed.tokens
        assert "it is not" in result.error

    def test_an_output_model_is_a_verdict_by_itself(self) -> None:
        """Followed, it passes; not followed after every repair, it is failed."""
        crew = Crew([Agent(ANN)], [Task("How big is it?", name="size", output=Answer)])
        good = self.run(crew, ScriptedModel(['{"city": "Ulm", "people": 129000}']))
        bad = self.run(crew, ScriptedModel(["big", "very big", "huge"]))
        assert [(one.task, one.passed, one.source) for one in good.verdicts] == [("size", True, "schema")]
        assert [(one.task, one.passed, one.source) for one in bad.verdicts] == [("size", False, "schema")]

    def test_that_nothing_was_raised_is_no_verdict(self) -> None:
        """A crew that declares none has none, and no reliability to tell."""
        result = self.run(Crew([Agent(ANN)], [Task("Say.")]), ScriptedModel(["said"]))
        assert result.done
        assert result.verdicts == ()
        assert result.reliability is None

    def test_the_output_as_a_whole_is_verified(self) -> None:
        """A "no" sends the job to the workflow, whose output is verified, too."""

        def whole(output: Any, _context: TaskContext) -> Verdict:
            return Verdict(passed=output == "from the workflow", reason="not what was asked")

        crew = judged_pair(verify=whole, fallback=chain(node(fixed)))
        result = self.run(crew, ScriptedModel(["notes", "text"]))
        assert (result.output, result.via) == ("from the workflow", "workflow")
        assert "not what was asked" in result.fell_back
        assert [one.passed for one in result.verdicts if one.source == "outcome"] == [False, True]

    def test_trials_and_outcomes_land_in_the_track_record(self) -> None:
        """By agent; a later failure that blames an earlier agent fails its trial, too."""

        def blaming(output: Any, _context: TaskContext) -> Verdict:
            return Verdict(passed=output == "text", reason="the notes were wrong", blames="ann")

        supervisor = self.supervisor(ScriptedModel(["notes", "text", "notes", "nothing"]))
        results = [supervisor.run(judged_pair(write=blaming)) for _ in range(2)]
        assert [result.status for result in results] == ["done", "failed"]
        record = cast(Store, supervisor.store).track_record().crew("crew")
        assert record is not None
        assert {name: (one.counts.trials, one.counts.good) for name, one in record.streams.items()} == {
            "ann/find": (2, 1),
            "bob/write": (2, 1),
            END_TO_END: (2, 1),
        }
        known = results[1].reliability
        assert known is not None
        assert (known.outcome, known.measured, known.runs, known.routed) == (0.0, 0.5, 2, None)

    def test_a_shadow_works_without_its_irreversible_tools(self) -> None:
        """The crew is judged as far as it needs none, the workflow's output counts, and nothing was sent."""
        sent: list[str] = []

        @tool(irreversible=True)
        def send(text: str) -> str:
            """Send it off."""
            sent.append(text)
            return "sent"

        model = ScriptedModel(["notes", Reply(tools=(("send", '{"text": "hello"}'),)), "I would send: hello"])
        tasks = judged_pair().tasks
        crew = Crew([Agent(ANN), Agent(BOB, [send])], tasks, fallback=chain(node(fixed)))
        supervisor = self.supervisor(model, asked(threshold=0.85, unknown="shadow"))
        result = supervisor.run(crew, run_id="r1")
        assert (result.output, result.via, sent) == ("from the workflow", "workflow", [])
        assert result.reliability is not None
        assert (result.reliability.routed, result.reliability.outcome) == ("shadow", None)
        kept = cast(Store, supervisor.store).track_record().run("r1")
        assert kept is not None
        assert [trial.task for trial in kept.report.trials] == ["find"]
        assert "shadow" in model.calls[-1].messages[-1].text

    def test_a_crew_whose_rest_cant_reach_the_threshold_is_stopped(self) -> None:
        """What is done and verified goes along to the workflow; the second agent is never asked."""
        workflow = FromDone()
        model = ScriptedModel(["notes"])
        result = self.run(judged_pair(find=so_so, fallback=workflow), model, asked(threshold=0.85))
        assert (result.output, result.via) == ("from the workflow", "workflow")
        assert workflow.done == {"find": "notes"}
        assert len(model.calls) == 1
        assert "can't reach 0.85" in result.fell_back
        assert result.reliability is not None
        assert result.reliability.outcome is None
