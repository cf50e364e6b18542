"""A workflow that runs by itself, before it runs: what its record reckons with."""

from __future__ import annotations

from typing import Any

from crew_guard import Agent, Crew, Policy, Role, Task, agent_node, chain, node, parallel, refine, retry, vote
from crew_guard.core.reliability.judging import judge_of
from crew_guard.core.reliability.trials import END_TO_END
from crew_guard.core.reliance import Reliance, reliance_of_workflow
from crew_guard.core.verdicts import Judge
from crew_guard.workflows.graph import Workflow
from crew_guard.workflows.reckoning import reckoned

ANN = Role(name="ann", goal="find out")
CAPS = {"max_steps": 3}
CRITIC = Judge("Good?", record=judge_of([(True, True)] * 9 + [(True, False), (False, False)]))


def step(value: Any) -> str:
    return "done"


def of_workflow(flow: Workflow) -> Reliance:
    found = reckoned(flow.shape, flow.subjects())
    return reliance_of_workflow(flow.name, found, Policy.model_validate({"reliability": {"threshold": 0.85}}))


def test_a_workflow_by_itself_knows_its_judges_errors():
    """That of a node's, of its crew's, of a task's in it; the outcomes have that of the only result's."""

    def asking(**more: Any) -> Any:
        return agent_node(
            Crew([Agent(ANN)], [Task("x", name="x", **more.pop("task", {}))], **more), name="ask", caps=CAPS
        )

    for flow, name in [
        (chain(node(step, verify=CRITIC)), "step"),
        (chain(asking(verify=CRITIC)), "ask"),
        (chain(asking(task={"verify": CRITIC})), "ask/ann/x"),
    ]:
        assert of_workflow(flow).settings.judged_by == {name: CRITIC.record, END_TO_END: CRITIC.record}
    two = parallel(node(step, name="one", verify=CRITIC), node(step, name="two", verify=lambda _: True))
    assert of_workflow(two).settings.judged_by == {"one": CRITIC.record}


def test_a_trial_of_several_verdicts_is_not_corrected_as_one():
    """The last of three tries is a yes more often; of a vote's copies each is one verdict, their answer is not."""
    judged = node(step, verify=CRITIC)
    assert of_workflow(chain(retry(judged, times=2))).settings.judged_by == {}
    assert of_workflow(vote(judged, voters=3)).settings.judged_by == {"step": CRITIC.record}
    both = Crew([Agent(ANN)], [Task("x")], verify=CRITIC)
    assert of_workflow(chain(agent_node(both, name="ask", caps=CAPS, verify=CRITIC))).settings.judged_by == {}


def test_what_refine_gives_is_judged_as_the_draft():
    """Its output is the writer's: what its reviewer's review was judged to be is no outcome."""

    def refined(drafted: Any, reviewed: Any) -> Reliance:
        draft, review = node(step, name="draft", verify=drafted), node(bool, name="review", verify=reviewed)
        return of_workflow(refine(draft, review, name="job"))

    assert refined(lambda _: True, None).results == ("draft",)
    assert refined(lambda _: True, None).judged
    assert not refined(None, lambda _: True).judged
