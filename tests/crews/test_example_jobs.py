"""The two jobs as examples: the advisor, the simulation and runs on scripted models agree on the figures.

Every combination of steps that go wrong is run once, for real, and weighed by how likely it is: what
comes out is the expected success and cost of the runs, exact but for rounding.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from crew_guard import Supervisor
from crew_guard.config.jobs import load_job
from crew_guard.core.reliability.advising import advise
from crew_guard.core.reliability.simulating import simulate
from crew_guard.core.reliability.ways import TIMES
from crew_guard.testing import MemoryStore

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


SALES, ONBOARDING = module("sales_follow_up"), module("customer_onboarding")
SALES_JOB, ONBOARDING_JOB = load_job(EXAMPLES / "sales_follow_up.yaml"), load_job(EXAMPLES / "customer_onboarding.yaml")


def patterns(right: Mapping[str, float]) -> Iterator[tuple[frozenset[str], float]]:
    """Every set of steps that go wrong, and how likely it is."""
    for flags in itertools.product((True, False), repeat=len(right)):
        wrong = frozenset(step for step, is_wrong in zip(right, flags, strict=True) if is_wrong)
        yield wrong, prod(1 - p if step in wrong else p for step, p in right.items())


def expected(right: Mapping[str, float], run: Callable[[frozenset[str]], tuple[bool, float]]) -> tuple[float, float]:
    """(success, dollars a task) over all patterns, each run once."""
    success = cost = weight = 0.0
    for wrong, likely in patterns(right):
        good, usd = run(wrong)
        success, cost, weight = success + good * likely, cost + usd * likely, weight + likely
    assert weight == pytest.approx(1)
    return success, cost


def sales_run(way: str, owner: str, wrong: frozenset[str]) -> tuple[bool, float]:
    office = SALES.Office(wrong)
    looks = SALES.careful(office) if owner == "careful" else SALES.hurried
    job = SALES.make_crew(office, looks) if way == "crew" else SALES.follow_up(office, looks)
    done = Supervisor(models=SALES.crew_models(office), store=MemoryStore()).run(job, {"account": "Acme"})
    assert done.done, done.error
    assert done.fell_back == ""
    return office.right("Acme"), float(done.usage.usd)


def reliabilities(job: Any) -> dict[str, float]:
    return {step.name: step.reliability for step in job.steps}


@pytest.mark.parametrize(
    ("way", "owner", "figure", "formula"),
    [
        ("workflow", "hurried", 0.941, "0.99 x 0.98 x 0.99 x 0.99 x 0.99"),
        ("workflow", "careful", 0.970, "0.99^3"),
        ("crew", "hurried", 0.696, "0.93^5"),
    ],
)
def test_the_sales_follow_up_comes_to_the_same_by_arithmetic_by_simulation_and_by_running(
    way: str, owner: str, figure: float, formula: str
) -> None:
    """0.941 without approval, 0.970 if the owner catches every bad summary and draft, 0.696 for the crew; its price."""
    catches = 1.0 if owner == "careful" else None
    case = advise(SALES_JOB).option(way).way.case(catches)  # type: ignore[arg-type]
    assert case.success == pytest.approx(figure, abs=0.0005)
    assert case.formula.replace(TIMES, "x") == formula
    right = reliabilities(SALES_JOB) if way == "workflow" else dict.fromkeys(SALES.STEPS, 0.93)
    success, usd = expected(right, lambda wrong: sales_run(way, owner, wrong))
    assert success == pytest.approx(case.success)
    assert usd == pytest.approx(0.80 if way == "workflow" else 3.50)
    found = simulate(SALES_JOB, 10_000, random.Random(1)).played
    played = next(one for one in found if one.way == way and one.catches == catches)
    assert played.success.interval.lower <= success <= played.success.interval.upper
    assert played.usd is not None
    assert played.usd.value == pytest.approx(usd)


def test_the_sales_follow_up_costs_what_the_case_says() -> None:
    """800 a week, 4 weeks: $11,200 a month by crew, $2,560 by workflow; the advisor says workflow."""
    advice = advise(SALES_JOB)
    assert advice.recommended == "workflow"
    assert advice.monthly == 3_200
    assert advice.option("crew").usd_month == 11_200
    assert advice.option("workflow").usd_month == 2_560
    assert (advice.option("workflow").tier, advice.option("crew").tier) == ("internal", "do not ship")


def test_its_steps_are_those_of_the_crew_and_its_nodes_those_of_the_workflow() -> None:
    """Five steps, six nodes: schedule_and_send is two of them, in the file, in the tasks and in the graph."""
    office = SALES.Office()
    tasks = [task.name for task in SALES.make_crew(office, SALES.hurried).tasks]
    nodes = [one.name for one in SALES.follow_up(office, SALES.hurried).nodes]
    steps = [step.name for step in SALES_JOB.steps]
    assert steps == tasks == list(SALES.STEPS)
    assert [name for step in SALES_JOB.steps for name in step.nodes or (step.name,)] == nodes
    assert len(nodes) == 6


@pytest.mark.parametrize("answer", ["no JSON", '{"contact": "Dana Reyes", "wants": "a pony"}'])
def test_a_summary_that_its_check_finds_wrong_sends_the_job_to_the_workflow(answer: str) -> None:
    """The output's schema, or the verifier; the workflow does the job, and nothing is sent twice."""
    office = SALES.Office()
    models = {**SALES.crew_models(office), "analyst": SALES.model("analyst", "0.01", lambda *_: answer)}
    crew = SALES.make_crew(office, SALES.careful(office))
    done = Supervisor(models=models, store=MemoryStore()).run(crew, {"account": "Acme"})
    assert (done.via, done.status) == ("workflow", "done")
    assert office.right("Acme")


def test_nothing_is_sent_that_its_owner_does_not_approve() -> None:
    """The workflow ends there; the outbox keeps the draft."""
    office = SALES.Office()
    workflow = SALES.follow_up(office, lambda approval: approval.node != "send")
    done = Supervisor(store=MemoryStore()).run(workflow, {"account": "Acme"})
    assert not done.done
    assert office.sent == []
    assert list(office.outbox) == ["Acme"]


def onboarding_run(way: str, wrong: frozenset[str], caught: frozenset[str]) -> tuple[bool, float]:
    service = ONBOARDING.Service(wrong)
    manager = ONBOARDING.manager_of(service, caught)
    job = ONBOARDING.make_crew(service, manager) if way == "crew" else ONBOARDING.onboarding(service, manager)
    done = Supervisor(models=ONBOARDING.crew_models(), store=MemoryStore()).run(job, {"customer": "North"})
    assert done.done, done.error
    return service.right, float(done.usage.usd)


def test_the_onboarding_comes_to_the_same_by_arithmetic_by_simulation_and_by_running() -> None:
    """Six deterministic steps: 0.975 at $0.10 by code, 0.647 at $2.40 by five agents."""
    advice = advise(ONBOARDING_JOB)
    assert advice.recommended == "workflow"
    assert "6 of 6 steps are code" in advice.numbers[0]
    found = simulate(ONBOARDING_JOB, 10_000, random.Random(1)).played
    for way, right, price in (
        ("workflow", reliabilities(ONBOARDING_JOB), 0.10),
        ("crew", dict.fromkeys(ONBOARDING.STEPS, 0.93), 2.40),
    ):
        success, usd = expected(right, lambda wrong, way=way: onboarding_run(way, wrong, frozenset()))
        assert success == pytest.approx(advice.option(way).way.case(None).success)  # type: ignore[arg-type]
        assert usd == pytest.approx(price)
        played = next(one for one in found if one.way == way and one.catches is None)
        assert played.success.interval.lower <= success <= played.success.interval.upper


def test_what_the_onboardings_manager_catches_raises_the_workflow_by_what_the_arithmetic_says() -> None:
    """Four of five errors in what they see: each such step is run as right, caught and missed."""
    right, seen = reliabilities(ONBOARDING_JOB), ("create_account", "set_permissions")
    success = 0.0
    for wrong, likely in patterns(right):
        to_see = [step for step in seen if step in wrong]
        for flags in itertools.product((True, False), repeat=len(to_see)):
            caught = frozenset(step for step, found in zip(to_see, flags, strict=True) if found)
            share = prod(0.8 if step in caught else 0.2 for step in to_see)
            success += likely * share * onboarding_run("workflow", wrong, caught)[0]
    decisive = advise(ONBOARDING_JOB).option("workflow").way.decisive
    assert decisive.catches == 0.8
    assert success == pytest.approx(decisive.success)


def test_the_onboarding_proves_its_tier_and_warns_of_the_crew() -> None:
    """With a thousand verdicts a step the bound reaches production; the crew of five does not come near."""
    advice = advise(ONBOARDING_JOB)
    workflow = advice.option("workflow")
    assert workflow.proven
    assert workflow.way.decisive.lower is not None
    assert workflow.way.decisive.lower > 0.95
    assert not advice.option("crew").proven
    assert any("5 agents" in one and "5 make 0.696" in one for one in advice.warnings)
    assert any("no step needs a model" in one for one in advice.warnings)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("sales_follow_up", "workflow with an owner who looks: done, $0.80, right"),
        ("customer_onboarding", "workflow, the manager looks: done, $0.10, right"),
    ],
)
def test_the_examples_run_as_they_stand(name: str, says: str) -> None:
    """Offline, with a line for each way."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.count(says) == 2
