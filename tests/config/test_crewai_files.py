"""crewAI's agents.yaml and tasks.yaml: what is taken over, what is told, and what is refused."""

import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
from pydantic import BaseModel

from crew_guard import Crew, Policy, Supervisor, Verdict, load_crew_files, load_role, tool
from crew_guard.config.crewai_keys import OF_AGENTS, OF_TASKS
from crew_guard.errors import ConfigError
from crew_guard.testing import MemoryStore, Reply, ScriptedModel

AGENTS = """\
researcher:
  role: >
    {topic} Senior Data Researcher
  goal: >
    Uncover developments in {topic}
  backstory: >
    You're a seasoned researcher
    with a knack for {topic}.
  llm: openai/gpt-4.1-mini
  tools: [search]
  max_iter: 3
  verbose: true
  allow_delegation: false
writer:
  role: Writer
  goal: Write
  backstory: You write.
"""
TASKS = """\
research_task:
  description: >
    Research {topic} as of {current_year}.
  expected_output: >
    Ten bullet points
  agent: researcher
plan_task:
  description: Plan
  expected_output: A plan
  agent: writer
report_task:
  description: Report
  expected_output: A report
  agent: writer
  context: [research_task]
  markdown: true
  output_pydantic: Report
  guardrail: long_enough
"""


class Report(BaseModel):
    title: str


@tool
async def search(query: str) -> str:
    """Search."""
    return f"about {query}"


@tool
async def other(query: str) -> str:
    """Do otherwise."""
    return query


GIVEN = {"tools": {"search": search, "other": other}, "outputs": {"Report": Report}}
VERIFIERS = {"long_enough": lambda output, context: Verdict(len(output.title) > 2)}


def files(folder: Path, agents: str = AGENTS, tasks: str = TASKS) -> tuple[Path, Path]:
    (folder / "agents.yaml").write_text(agents)
    (folder / "tasks.yaml").write_text(tasks)
    return folder / "agents.yaml", folder / "tasks.yaml"


def load(folder: Path, agents: str = AGENTS, tasks: str = TASKS, **more) -> Crew:
    return load_crew_files(*files(folder, agents, tasks), **{**GIVEN, "verifiers": VERIFIERS, **more})


def refused(folder: Path, agents: str = AGENTS, tasks: str = TASKS, **more) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, agents, tasks, **more)
    return str(caught.value)


def templates() -> list[Path]:
    spec = find_spec("crewai_cli")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return sorted(file for folder in folders for file in Path(folder).rglob("config/agents.yaml"))


def test_crewais_own_templates_load_as_they_are():
    """Every pair of files that crewAI ships for new projects: only a file that it would write is told."""
    pairs = templates()
    if not pairs:
        pytest.skip("crewai is not installed")
    for agents in pairs:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            crew = load_crew_files(agents, agents.with_name("tasks.yaml"))
        assert all("output_file: it is not written" in str(one.message) for one in told)
        assert len(crew.agents) >= 2
        assert "topic" in crew.variables()
        model = ScriptedModel(["done"], repeat=True)
        result = Supervisor(model=model, store=MemoryStore()).run(crew, {"topic": "gzip", "current_year": 2026})
        assert result.done, result
        assert not any("{topic}" in message.text for call in model.calls for message in call.messages)


def test_the_files_are_run_as_they_are_meant(tmp_path):
    """Titles and placeholders, context, tools, output and guardrail all reach the models."""
    crew = load(tmp_path)
    script = [Reply(tools=(("search", '{"query": "x"}'),)), "ten points", "the plan", '{"title": "gzip"}']
    model = ScriptedModel(script)
    supervisor = Supervisor(models={"openai:gpt-4.1-mini": model}, model=model, store=MemoryStore())
    result = supervisor.run(crew, {"topic": "gzip", "current_year": 2026})
    assert result.output == Report(title="gzip"), result
    assert result.agents.keys() == {"researcher", "writer"}
    first, last = model.calls[0].messages, model.calls[-1].messages
    assert first[0].text == (
        "You are gzip Senior Data Researcher. Uncover developments in gzip\n"
        "You're a seasoned researcher with a knack for gzip."
    )
    assert first[1].text == "Research gzip as of 2026.\n\nThe answer is to be: Ten bullet points"
    assert "ten points" in last[1].text
    assert "the plan" not in last[1].text
    assert "Write the answer in Markdown." in last[1].text
    assert [verdict.task for verdict in result.verdicts] == ["report_task"]
    assert crew.agents[0].role.model == "openai:gpt-4.1-mini"


def test_max_iter_is_a_cap_that_the_gate_holds(tmp_path):
    """Three model calls of that agent, whatever it asks for; a policy's lower cap stays, its hash is its own."""
    looping = [Reply(tools=(("search", '{"query": "x"}'),))]
    crew = load(tmp_path)

    def run(**policy):
        model = ScriptedModel(looping, repeat=True)
        checked = Policy.model_validate(policy)
        models = {"openai:gpt-4.1-mini": model}
        result = Supervisor(checked, models=models, model=model, store=MemoryStore()).run(
            crew, {"topic": "gzip", "current_year": 2026}
        )
        return result, len(model.calls), result.policy == checked.hash

    result, calls, same = run()
    assert not same
    assert (calls, result.stopped.limit, result.stopped.scope) == (3, "max_steps", "agent:researcher")
    assert run(agents={"researcher": {"max_steps": 2}})[1] == 2
    kept, *_ = run(per_agent={"max_steps": 9, "max_tool_calls": 1})
    assert kept.stopped.limit == "max_tool_calls"


def test_max_iter_counts_each_task_of_its_agent(tmp_path):
    """crewAI counts a task's iterations by themselves: two tasks may take twice as many."""
    agents = AGENTS.replace("  backstory: You write.\n", "  backstory: You write.\n  max_iter: 5\n")
    crew = load(tmp_path, agents)
    assert {agent.name: agent.role.max_steps for agent in crew.agents} == {"researcher": 3, "writer": 10}


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("gpt-4o", "openai:gpt-4o"),
        ("anthropic/claude-sonnet-4-5", "anthropic:claude-sonnet-4-5"),
        ("ollama/llama3.1:8b", "ollama:llama3.1:8b"),
        ("openrouter/anthropic/claude", "openrouter:anthropic/claude"),
        ("embedded:smollm2", "embedded:smollm2"),
        ("my_llm", "ollama:mine"),
    ],
)
def test_models_go_by_our_names(tmp_path, name, ours):
    """provider/name becomes provider:name; a name of the project's own is looked up first."""
    agents = AGENTS.replace("openai/gpt-4.1-mini", name)
    assert load(tmp_path, agents, models={"my_llm": "ollama:mine"}).agents[0].role.model == ours


@pytest.mark.parametrize("key", ["max_rpm: 10", "max_execution_time: 60", "max_tokens: 900", "guardrail: be nice"])
def test_a_limit_that_cannot_be_held_is_refused(tmp_path, key):
    """The error names file, line and key, and the way out; with ignore= it is told and left out."""
    agents = AGENTS.replace("  max_iter: 3", f"  max_iter: 3\n  {key}")
    name = key.partition(":")[0]
    text = refused(tmp_path, agents)
    assert text.startswith(f"{tmp_path / 'agents.yaml'}:12: researcher.{name}: ")
    assert f"ignore=['researcher.{name}']" in text
    with pytest.warns(UserWarning, match=rf"agents\.yaml:12: researcher\.{name}: left out"):
        load(tmp_path, agents, ignore=[f"researcher.{name}"])


def test_a_check_that_cannot_be_made_is_refused(tmp_path):
    """A person's look, and a guardrail in words or unknown; false and empty say nothing."""
    text = refused(tmp_path, tasks=TASKS + "  human_input: true\n")
    assert "tasks.yaml:19: report_task.human_input: nobody is asked" in text
    load(tmp_path, tasks=TASKS + "  human_input: false\n  callback:\n  async_execution: false\n")
    text = refused(tmp_path, verifiers={})
    assert "tasks.yaml:18: report_task.guardrail: names 'long_enough', which was not given; verifiers= has none" in text
    with pytest.warns(UserWarning, match="report_task.guardrail: left out"):
        assert load(tmp_path, verifiers={}, ignore=["guardrail"]).tasks[-1].verify is None


def test_what_is_not_done_is_told_with_its_line(tmp_path):
    """One warning for each, and the crew loads."""
    tasks = TASKS + "  output_file: output/report.md\n  async_execution: true\n"
    agents = AGENTS.replace("allow_delegation: false", "allow_delegation: true\n  inject_date: true")
    with pytest.warns(UserWarning, match="yaml:") as caught:
        load(tmp_path, agents, tasks)
    told = sorted(str(one.message).removeprefix(f"{tmp_path}/").split(": ")[:2] for one in caught)
    assert told == [
        ["agents.yaml:13", "researcher.allow_delegation"],
        ["agents.yaml:14", "researcher.inject_date"],
        ["tasks.yaml:19", "report_task.output_file"],
        ["tasks.yaml:20", "report_task.async_execution"],
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("max_iter: 3", "max_itr: 3", "agents.yaml:11: researcher.max_itr: unknown key; did you mean max_iter?"),
        ("max_iter: 3", "max_iter: few", "agents.yaml:11: researcher.max_iter: expected a whole number"),
        (
            "tools: [search]",
            "tools: [serch]",
            "agents.yaml:10: researcher.tools: names the tool 'serch', which was not",
        ),
        ("tools: [search]", "tools: search", "agents.yaml:10: researcher.tools: expected a list of names"),
        ("  goal: Write\n", "", "agents.yaml:14: writer: goal is missing"),
        ("writer:", "9writer:", "an agent's key begins with a letter"),
        ("role: Writer", "role: The {my-topic} writer", "agents.yaml:15: writer.role: has the placeholder {my-topic}"),
        ("agent: researcher", "agent: nobody", "tasks.yaml:6: research_task.agent: names the agent 'nobody'"),
        ("context: [research_task]", "context: [x]", "tasks.yaml:15: report_task.context: names 'x', which is no task"),
        ("output_pydantic: Report", "output_json: Rep", "tasks.yaml:17: report_task.output_json: names 'Rep'"),
        ("  expected_output: A plan\n", "", "tasks.yaml:7: plan_task: expected_output is missing"),
        ("  agent: writer\n  context", "  tools: [other]\n  agent: writer\n  context", "have different tools"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path, old, new, words):
    """File, line, key and what was expected."""
    assert old in AGENTS + TASKS
    assert words in refused(tmp_path, AGENTS.replace(old, new, 1), TASKS.replace(old, new, 1))


def test_a_tasks_own_tools_are_all_that_its_agent_gets(tmp_path):
    """Where they are those of every task of that agent: nothing is widened."""
    crew = load(tmp_path, tasks=TASKS.replace("agent: researcher", "agent: researcher\n  tools: [other]"))
    assert [given.name for given in crew.agents[0].tools] == ["other"]


def test_a_single_agent_needs_no_naming(tmp_path):
    """Its tasks may leave agent out."""
    agents = "helper:\n  role: Helper\n  goal: Help\n  backstory: You help.\n"
    tasks = "help:\n  description: Help\n  expected_output: Help\n"
    assert load(tmp_path, agents, tasks).tasks[0].agent == "helper"


def test_one_agent_of_the_file_is_a_role(tmp_path):
    """By its key where there are several; a file of one agent, with or without a key, by itself."""
    agents, _ = files(tmp_path)
    role = load_role(f"{agents}:researcher")
    assert (role.name, role.title, role.tools, role.max_steps) == (
        "researcher", "{topic} Senior Data Researcher", ("search",), 3,
    )  # fmt: skip
    with pytest.raises(
        ConfigError, match=r"has several agents, researcher, writer: name one, as in agents\.yaml:researcher"
    ):
        load_role(agents)
    with pytest.raises(ConfigError, match="has no agent 'nobody'; its agents are researcher, writer"):
        load_role(f"{agents}:nobody")
    flat = tmp_path / "helper.yaml"
    flat.write_text("role: Helper\ngoal: Help\nbackstory: You help.\n")
    assert (load_role(flat).name, load_role(flat).instructions) == ("helper", "You help.")
    flat.write_text("helper:\n  role: Helper\n  goal: Help\n  backstory: You help.\n  max_rpm: 3\n")
    with pytest.raises(ConfigError, match=r"helper\.yaml:5: helper\.max_rpm: "):
        load_role(flat)


def test_every_key_that_crewai_takes_has_an_answer():
    """The fields of its Agent and Task that a file may set: done, refused, told or of no effect."""
    crewai = pytest.importorskip("crewai")
    from crewai.project.crew_base import AgentConfig, TaskConfig

    assert AgentConfig.__annotations__.keys() - {*OF_AGENTS.all} <= {
        "cache_handler", "agent_knowledge_context", "crew_knowledge_context", "knowledge_search_query",
    }  # fmt: skip
    assert TaskConfig.__annotations__.keys() <= {*OF_TASKS.all}
    assert {"max_execution_time", "max_iter", "max_rpm"} <= crewai.Agent.model_fields.keys()
