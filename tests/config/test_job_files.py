"""Files that describe a job, and crews in Python read as one: what is taken, and the error that names each mistake."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from ruamel.yaml import YAML

from crew_guard import Agent, Crew, Role, Task, agent_node, chain, node, tool
from crew_guard.config.crew_jobs import COMPLETION_TOKENS, PROMPT_TOKENS, Known, describe_crew
from crew_guard.config.jobs import load_job
from crew_guard.core.reliability.advising import advise
from crew_guard.core.reliability.counts import Counts, Sums
from crew_guard.core.reliability.jobs import EndToEnd, JobDescription, JobStep
from crew_guard.core.reliability.records import CrewRecord, Stream
from crew_guard.core.reliability.trials import END_TO_END
from crew_guard.core.usage import NANO, Rate, Rates
from crew_guard.errors import ConfigError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def problems(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_job(file)
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


@pytest.mark.parametrize("name", ["sales_follow_up", "customer_onboarding"])
def test_the_examples_load(name: str) -> None:
    """As they stand."""
    assert load_job(EXAMPLES / f"{name}.yaml").steps


def test_the_job_of_the_docs_is_right_and_so_are_their_figures(tmp_path: Path) -> None:
    """docs/advisor.md as it stands."""
    text = (EXAMPLES.parent / "docs/advisor.md").read_text()
    file = tmp_path / "refunds.yaml"
    file.write_text(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0])
    assert advise(load_job(file)).recommended == "hybrid"
    onboarding = advise(load_job(EXAMPLES / "customer_onboarding.yaml"))
    workflow, crew = onboarding.option("workflow").way.cases[0], onboarding.option("crew").way.cases[0]
    figures = f"right in {workflow.success:.3f}\nof all cases at $0.10, with a lower bound of {workflow.lower:.3f}"
    assert figures in text
    assert f"the crew in {crew.success:.3f} at $2.40" in text


def test_money_is_exact_and_a_file_names_its_job(tmp_path: Path) -> None:
    """Dollars never pass through a binary float; without a name the file's is taken."""
    file = tmp_path / "refunds.yaml"
    file.write_text("steps: [{name: pay, usd: 0.000000123456789}]\n")
    job = load_job(file)
    assert job.name == "refunds"
    assert job.steps[0].usd == Decimal("0.000000123456789")


def test_every_problem_is_told_with_file_line_key_value_and_what_was_expected(tmp_path: Path) -> None:
    """All of them at once, in the order of their lines."""
    text = """\
volume: {tasks: 800, per: fortnight}
target: 1.0
steps:
  - {name: a, reliability: 1.2}
  - {name: b, usd: -1, deterministic: 1}
  - {nmae: c, seconds: "2"}
"""
    assert problems(tmp_path, text) == [
        'job.yaml:1: volume.per: expected day or week or month, got the text "fortnight"',
        "job.yaml:2: target: expected a number of less than 1, got 1.0",
        "job.yaml:4: steps.0.reliability: expected a number of at most 1, got 1.2",
        "job.yaml:5: steps.1.usd: expected a number of at least 0, got -1",
        "job.yaml:5: steps.1.deterministic: expected true or false, got 1",
        'job.yaml:6: steps.2.seconds: expected a number, got the text "2": take the quotes away',
        "job.yaml:6: steps.2.name: is missing; expected text",
        "job.yaml:6: steps.2.nmae: unknown key; did you mean name?",
    ]


def test_what_several_keys_say_together_is_told_at_its_line(tmp_path: Path) -> None:
    """Contradictions, unknown steps, a target below its tier."""
    text = """\
tier: production
target: 0.8
steps:
  - {name: a, deterministic: true, model: true}
  - name: b
    seconds: 2
    seconds_p95: 30
approval:
  who: Ann
  before: bb
"""
    assert problems(tmp_path, text) == [
        "job.yaml:2: target: 0.8 is below what the tier production needs; expected at least 0.95, or another tier",
        "job.yaml:4: steps.0.model: is true of a deterministic step, which code does; "
        "expected `deterministic: false` or no `model`",
        "job.yaml:7: steps.1.seconds_p95: 30 doesn't fit an average of 2; "
        "expected from 2 to 7.736, 3.87 times the average",
        "job.yaml:10: approval.before: there is no step 'bb'; did you mean b?",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "job.yaml: is empty; expected the steps of a job"),
        ("steps: []\n", "job.yaml:1: steps: expected at least 1 entries, got none"),
        (
            "name: x\n",
            "job.yaml:1: steps: is missing; expected a list of sections, each beginning with `- name: …`",
        ),
        ("[a]\n", "job.yaml:1: expected lines of `key: value`, got a list"),
    ],
)
def test_a_file_without_steps_says_so(tmp_path: Path, text: str, says: str) -> None:
    """One line."""
    assert problems(tmp_path, text) == [says]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With what it should hold."""
    with pytest.raises(ConfigError, match=r"none\.yaml: there is no such file; expected the steps of a job"):
        load_job(tmp_path / "none.yaml")


KEYS = st.one_of(
    st.sampled_from([*JobDescription.model_fields, *JobStep.model_fields, "who", "before", "agents", "tasks", "to"]),
    st.text(max_size=6),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.dates())
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=10,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(tree=st.dictionaries(KEYS, TREES, max_size=4), steps=st.lists(TREES, max_size=3))
def test_a_random_document_is_a_job_with_advice_or_a_config_error(
    tmp_path: Path, tree: dict[str, Any], steps: list[Any]
) -> None:
    """No document makes the loader, or the advisor behind it, raise anything else."""
    file = tmp_path / "random.yaml"
    yaml = YAML(typ="safe", pure=True)
    try:
        with file.open("w", encoding="utf-8") as stream:
            yaml.dump({**tree, "steps": [{"name": "a"}, *steps]}, stream)
    except Exception:
        file.write_text("steps: [{name: a}]\n")
    message = str(file)
    try:
        job = load_job(file)
    except ConfigError as error:
        message = str(error)
    else:
        assert advise(job).recommended
    assert str(file) in message


# Crews in Python


@tool
def look_up(name: str) -> str:
    """Look up an account."""
    return name


@tool(irreversible=True)
def send(text: str) -> str:
    """Send an email."""
    return text


def a_crew(**more: Any) -> Crew:
    reader = Agent(Role(name="reader", goal="Read", model="openai:gpt-4.1-mini"), tools=[look_up])
    writer = Agent(Role(name="writer", goal="Write", max_tokens=300), model="own:model")
    sender = Agent(Role(name="sender", goal="Send"), tools=[send])
    tasks = [
        Task("Read about {name}", agent="reader", name="read"),
        Task("Write to {name}", agent="writer", name="write"),
        Task("Send it", agent="sender", name="send"),
    ]
    return Crew([reader, writer, sender], tasks, name="mail", **more)


def prices(name: str) -> Rates | None:
    return Rates(Rate(NANO), Rate(2 * NANO)) if name == "own:model" else None


def test_a_crew_in_python_is_read_for_what_its_code_says() -> None:
    """Tasks as steps, tools as judgement and as what can't be undone, prices from the model; the rest is unknown."""
    found = describe_crew(a_crew(), Known(prices))
    read, write, last = found.job.steps
    assert [read.judgement, write.judgement, last.judgement] == [True, False, True]
    assert [read.irreversible, last.irreversible] == [None, True]
    assert write.agent is not None
    assert write.agent.usd == (PROMPT_TOKENS + 2 * Decimal(300)) / 1_000_000
    assert COMPLETION_TOKENS != 300
    assert read.agent is None
    assert found.job.crew is not None
    assert found.job.crew.agents == 3
    assert "read: no price is known for openai:gpt-4.1-mini" in found.sources
    assert advise(found.job).option("crew").way.decisive.success is None


def test_its_track_record_comes_before_estimates() -> None:
    """Rates and verdicts by agent, averages of cost and time, and end to end the runs that its workflow saved, too."""
    streams = {"reader/read": Stream(counts=Counts(200, 190.0)), "sender": Stream(counts=Counts(50, 50.0))}
    streams[END_TO_END] = Stream(counts=Counts(50, 36.0))
    sums = Sums(runs=40, outcomes=Counts(40, 36.0), usd=20.0, seconds=400.0)
    record = CrewRecord("mail", streams=streams, crew_runs=sums)
    given = JobDescription.model_validate(
        {"steps": ({"name": "read", "agent": {"reliability": 0.5}}, {"name": "write", "agent": {"reliability": 0.9}})}
    )
    found = describe_crew(a_crew(), Known(prices, record=record, estimates=given))
    way = advise(found.job).option("crew").way
    assert [part.reliability for part in way.parts] == [0.95, 0.9, 1.0]
    assert [part.trials for part in way.parts] == [200, 0, 50]
    assert (way.usd, way.seconds) == (Decimal("0.5"), 10.0)
    assert "read: 190 of 200 trials of reader were good" in found.sources
    assert "measured end to end: 36 of 50 runs were good, 0.720" in found.sources
    assert found.job.crew is not None
    assert found.job.crew.measured == EndToEnd(tasks=50, good=36)
    more = replace(streams[END_TO_END], counts=Counts(80, 60.0))
    record = replace(record, streams={**streams, END_TO_END: more})
    whole = advise(describe_crew(a_crew(), Known(prices, record=record, estimates=given)).job).option("crew").way
    assert (whole.decisive.measured, whole.decisive.success) == (True, 0.75)
    assert whole.decisive.by_parts == pytest.approx(0.855)


def test_nodes_of_its_fallback_say_which_steps_are_code() -> None:
    """A node of a task's name; what a plain function does is code."""

    def read(inputs: Any) -> Any:
        return inputs

    def write(value: Any) -> Any:
        return value

    found = describe_crew(a_crew(fallback=chain(read, write)), Known(prices))
    assert [step.deterministic for step in found.job.steps] == [True, True, True]
    assert found.job.steps[0].judgement is None
    assert "read: code does it, read of the fallback" in found.sources
    assert "send: code does it, read, write of the fallback" in found.sources


def test_a_node_that_is_an_agents_needs_judgement_and_one_that_asks_a_model_does_not() -> None:
    """Nodes stand for the task of their name, or for the one they say is done by it."""
    weigh = agent_node(Agent(Role(name="judge", goal="Decide")), "Weigh it", name="read", caps={"max_steps": 3})
    write = node(lambda value: f"Write about {value}", name="write", model="openai:gpt-4.1-mini")
    post = node(lambda value: value, name="post", done_by="send", irreversible=True, approve=lambda _: True)
    found = describe_crew(a_crew(fallback=chain(weigh, write, post)), Known(prices))
    assert [step.judgement for step in found.job.steps] == [True, False, None]
    assert [step.model for step in found.job.steps] == [None, True, None]
    assert found.job.steps[2].deterministic
    assert found.job.steps[2].nodes == ("post",)
    assert advise(found.job).recommended == "hybrid"


def test_estimates_for_a_task_that_isnt_there_are_refused() -> None:
    """The name, and the nearest one."""
    given = JobDescription.model_validate({"steps": ({"name": "wirte"},)})
    with pytest.raises(ConfigError, match="'wirte', which is no task of the crew mail; did you mean write"):
        describe_crew(a_crew(), Known(prices, estimates=given))


def test_a_crew_that_decides_who_does_what_needs_judgement_everywhere() -> None:
    """No task of a hierarchical crew has a fixed path."""
    crew = Crew([Agent(Role(name="writer", goal="Write"))], [Task("Write")], process="hierarchical")
    found = describe_crew(crew, Known(prices))
    assert advise(found.job).recommended == "agent_loop"
    assert found.job.crew is not None
    assert found.job.crew.agents == 2
