"""What makes a guarded crew, agent or flow of CrewAI another version: each thing that docs/hosts.md names."""

import json

import pytest
from crewai import Agent, Crew, Process, Task
from crewai.flow.flow import Flow, listen, start

from crew_guard import Policy, guard
from crew_guard.adapters.crewai.defining import definition_of
from crew_guard.store.memory import MemoryStore
from tests.adapters.crewai_doubles import HungryLLM, Look, answering, hungry_agent

FREE = Policy.model_validate({"limits": {"max_steps": 40}})


def read(host):
    return json.dumps(definition_of(host))


def crew_of(**options):
    """Two agents, each with a task, and a manager that leads nobody yet."""
    first, second = (hungry_agent(HungryLLM(), role=role, goal="know") for role in ("reader", "writer"))
    tasks = [Task(description=f"Do {name}.", expected_output="all", agent=agent, tools=[Look()])
             for name, agent in (("this", first), ("that", second))]  # fmt: skip
    return Crew(agents=[first, second], tasks=tasks, **options)


def led_by_an_agent():
    manager = Agent(role="boss", goal="lead", backstory="You lead.", llm=HungryLLM())
    return crew_of(process=Process.hierarchical, manager_agent=manager)


def led_by_a_model():
    return crew_of(process=Process.hierarchical, manager_llm=HungryLLM())


def planned():
    return crew_of(planning=True, planning_llm=HungryLLM())


CHANGES = {
    "the role": (crew_of, lambda crew: setattr(crew.agents[0], "role", "looker")),
    "the goal": (crew_of, lambda crew: setattr(crew.agents[0], "goal", "know all")),
    "the backstory": (crew_of, lambda crew: setattr(crew.agents[0], "backstory", "You look.")),
    "a template": (crew_of, lambda crew: setattr(crew.agents[0], "system_template", "Be brief.")),
    "the model": (crew_of, lambda crew: setattr(crew.agents[0].llm, "model", "large")),
    "a tool": (crew_of, lambda crew: setattr(crew.agents[0], "tools", [Look(name="search")])),
    "a task's description": (crew_of, lambda crew: setattr(crew.tasks[0], "description", "Do more.")),
    "a task's expected output": (crew_of, lambda crew: setattr(crew.tasks[0], "expected_output", "more")),
    "a task's tool": (crew_of, lambda crew: setattr(crew.tasks[0], "tools", [Look(name="search")])),
    "who has a task": (crew_of, lambda crew: setattr(crew.tasks[0], "agent", crew.agents[1])),
    "the order of the tasks": (crew_of, lambda crew: crew.tasks.reverse()),
    "the process": (crew_of, lambda crew: setattr(crew, "process", Process.hierarchical)),
    "the manager": (led_by_an_agent, lambda crew: setattr(crew.manager_agent, "goal", "rule")),
    "the manager's model": (led_by_a_model, lambda crew: setattr(crew.manager_llm, "model", "large")),
    "that it plans": (planned, lambda crew: setattr(crew, "planning", False)),
    "the planner's model": (planned, lambda crew: setattr(crew.planning_llm, "model", "large")),
}  # fmt: skip


@pytest.mark.parametrize(("made", "change"), CHANGES.values(), ids=CHANGES)
def test_each_part_takes_part_in_the_version(made, change):
    """And a crew that is made once more in the same way reads the same."""
    crew = made()
    before = read(crew)
    assert before == read(made())
    change(crew)
    assert read(crew) != before


def test_who_has_a_task_is_no_part_where_a_manager_leads():
    """CrewAI gives them all to that one."""
    crew = led_by_an_agent()
    before = read(crew)
    crew.tasks[0].agent = None
    crew.tasks[1].agent = crew.agents[0]
    assert read(crew) == before


@pytest.mark.parametrize("place", ["crewai.tools.mcp_native_tool", "crewai_tools.tools.crewai_platform_tools.tool"])
def test_the_tools_that_an_agents_own_kickoff_adds_are_no_part(place):
    """What a server offers is not known before."""

    class Offered(Look):
        """A tool of a server's."""

    Offered.__module__ = place
    agent = hungry_agent(HungryLLM())
    before = read(agent)
    agent.tools = [*agent.tools, Offered(name="offered")]
    assert read(agent) == before


# Flows


def flow_of(first=start, second=listen):
    class Page(Flow):
        @first()
        def outline(self):
            return 1

        @second(outline)
        def write(self):
            return 2

    return Page()


def longer_flow():
    class Page(Flow):
        @start()
        def outline(self):
            return 1

        @listen(outline)
        def write(self):
            return 2

        @listen(write)
        def polish(self):
            return 3

    return Page()


def test_a_flows_methods_and_what_they_listen_to_take_part():
    """Their own code does not."""
    flows = [flow_of(), flow_of(second=start), longer_flow()]
    assert len({read(one) for one in flows}) == 3
    assert None not in [definition_of(one) for one in flows]
    assert read(flow_of()) == read(flow_of())


def work(flow, *given):
    return 1


def other_work(flow, *given):
    return 2


def declared(does, listens="outline"):
    lines = ["schema: crewai.flow/v1", "name: Page", "methods:", "  outline:", "    start: true", f"    do: {does}"]
    lines += ["  write:", f"    listen: {listens}", f"    do: {does}"]
    return Flow.from_declaration(contents="\n".join(lines))


def test_of_a_declared_flow_it_takes_part_what_each_method_does():
    """The expression, the prompt; of one that calls a function its code is not read."""
    expressions = [f"{{call: expression, expr: '{number} + 1'}}" for number in (1, 2)]
    works = [f"{{call: code, ref: '{__name__}:{name}'}}" for name in ("work", "other_work")]
    read_each = [read(declared(does)) for does in (*expressions, *works)]
    assert len(set(read_each)) == 3
    assert read_each[2] == read_each[3]


# After a run


def small_crew(llm, **options):
    agent = hungry_agent(llm, tools=[], goal="know", backstory="You know.")
    task = Task(description=options.pop("text", "Tell all."), expected_output="all", agent=agent)
    return Crew(agents=[agent], tasks=[task], **options)


def versions(crew, change, inputs=None):
    """The version before and after a change between two runs."""
    guarded = guard(crew, FREE, verify=lambda *_: True, store=MemoryStore())
    first = guarded.run(inputs or {}).reliability.version
    change(crew)
    second = guarded.run(inputs or {}).reliability.version
    return first, second


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("Tell all.", lambda crew: setattr(crew.agents[0], "goal", "know, and MIND")),
        ("Tell all.", lambda crew: setattr(crew.agents[0], "backstory", "You know. MIND")),
        ("Tell all.", lambda crew: setattr(crew.tasks[0], "description", "Tell all. MIND")),
        ('Give {"a": 1}.', lambda crew: setattr(crew.tasks[0], "description", "MIND")),
        ("Tell all.", lambda crew: setattr(crew.tasks[0], "expected_output", "all, and MIND")),
    ],
    ids=["goal", "backstory", "description", "braces", "expected output"],
)
def test_a_text_that_was_changed_since_a_run_is_another_version(text, change):
    """Where the model reads it: longer, or another in place of one with braces."""
    read_by_model = []

    class Reading(HungryLLM):
        def call(self, messages, *args, **kwargs):
            read_by_model.append(str(messages))
            return super().call(messages, *args, **kwargs)

    first, second = versions(small_crew(Reading(answer_after=0), text=text), change)
    assert ["MIND" in one for one in read_by_model] == [False, True]
    assert first != second


def test_a_plan_is_no_part_of_a_task():
    """CrewAI adds what its planner says to the task's own text, and leaves it there."""
    plan = '{"list_of_plans_per_task": [{"task_number": 1, "task": "tell", "plan": "First look."}]}'
    crew = small_crew(answering(), planning=True, planning_llm=answering(plan))
    first, second = versions(crew, lambda crew: None)
    assert crew.tasks[0].description == "Tell all.First look.First look."
    assert first == second
    again, changed = versions(crew, lambda crew: setattr(crew.tasks[0], "description", "Tell less."))
    assert first == again != changed


def test_a_conversation_is_no_part_of_a_task():
    """CrewAI adds what was said in its chat in the same way."""
    inputs = {"crew_chat_messages": '[{"role": "user", "content": "Hello."}]'}
    crew = small_crew(answering())
    first, second = versions(crew, lambda crew: None, inputs)
    assert crew.tasks[0].description.endswith("User: Hello.")
    assert first == second


def test_what_another_crew_filled_in_is_no_part():
    """An agent of both is the same one."""
    agent = hungry_agent(answering(), tools=[], goal="know {topic} and {more}", backstory="{topic}")
    one, other = (Crew(agents=[agent], tasks=[Task(description="Tell of {topic}.", expected_output="all", agent=agent)])
                  for _ in range(2))  # fmt: skip
    fill = lambda _: guard(other, FREE, store=MemoryStore()).run({"topic": "tar", "more": "zip\nzstd"})  # noqa: E731
    first, second = versions(one, fill, {"topic": "gzip", "more": "brotli"})
    assert first == second
