"""What a guarded host is called, and when its version changes: the record of one that changed begins afresh."""

import json
import os
import re
import subprocess
import sys
from types import FunctionType

import pytest

from crew_guard import Policy, guard
from crew_guard.adapters.defining import called, plain, read
from crew_guard.errors import ConfigError
from crew_guard.store.memory import MemoryStore
from tests.adapters import crewai_doubles, defined_hosts
from tests.adapters.crewai_doubles import HungryLLM, answering, hungry_agent, hungry_crew
from tests.adapters.defined_hosts import HOSTS, definition_of, host_of

FREE = Policy.model_validate({"limits": {"max_steps": 20}})
INPUTS = {"crewai": {"topic": "gzip"}, "langgraph": {"messages": [("user", "go")]}}


def run(guarded, host="crewai"):
    result = guarded.run(INPUTS.get(host, {"task": "go"}))
    assert result.done, result
    return result.reliability.version


def guarded_on(host, store, *, changed=None, **options):
    return guard(host_of(host, **(changed or {})), FREE, verify=lambda *_: True, store=store, **options)


@pytest.mark.parametrize("host", HOSTS)
def test_two_of_one_class_have_records_of_their_own(host):
    """By the names that their user gave them."""
    store = MemoryStore()
    for name in ("refunds", "invoices"):
        guarded = guarded_on(host, store, changed={"name": name})
        assert guarded.name == name
        run(guarded, host)
    assert sorted((one.crew, one.end_to_end.trials) for one in store.track_record().crews()) == [
        ("invoices", 1),
        ("refunds", 1),
    ]


@pytest.mark.parametrize("host", HOSTS)
def test_another_prompt_model_or_tool_is_another_version(host):
    """And what is made once more in the same way is the same one."""
    store = MemoryStore()
    first, again = (run(guarded_on(host, store, name="one"), host) for _ in range(2))
    assert first == again
    changes = ({"prompt": "Answer at length."}, {"model": "large"}, {"tool": "search"})
    others = [run(guarded_on(host, store, changed=change, name="one"), host) for change in changes]
    assert len({first, *others}) == 4


@pytest.mark.parametrize("host", HOSTS)
def test_a_run_changes_nothing_of_the_version(host):
    """Whatever the host keeps of it."""
    guarded = guarded_on(host, MemoryStore())
    assert len({run(guarded, host) for _ in range(3)}) == 1


@pytest.mark.parametrize("host", HOSTS)
def test_what_its_user_says_takes_part_in_the_version(host):
    """For what can't be read, such as a prompt inside of a function."""
    store = MemoryStore()
    versions = [run(guarded_on(host, store, name="one", version=said), host) for said in (None, "p1", "p2", "p2")]
    assert len(set(versions[:3])) == 3
    assert versions[2] == versions[3]


def test_a_fresh_process_reads_the_same():
    """No order of a set, no address and no hash takes part."""
    read_here = {host: definition_of(host) for host in HOSTS}
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", defined_hosts.__name__],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        assert json.loads(done.stdout.splitlines()[-1]) == json.loads(json.dumps(read_here))


@pytest.mark.parametrize("wrong", ["", "  ", 3, ["a"]], ids=repr)
@pytest.mark.parametrize("option", ["name", "version"])
def test_a_name_or_version_that_says_nothing_is_told(option, wrong):
    """With what was given."""
    with pytest.raises(ConfigError, match=f"^{option} must .*, not {re.escape(repr(wrong))}"):
        guarded_on("crewai", MemoryStore(), **{option: wrong})


def test_a_name_of_ones_own_is_used_everywhere():
    """In the result's record, in the journal and in what a person says of the run later."""
    store = MemoryStore()
    guarded = guarded_on("crewai", store, name="billing")
    result = guarded.run(INPUTS["crewai"])
    assert next(iter(store.read(result.run_id))).crew == "billing"
    assert store.track_record().crew("billing").end_to_end.trials == 1
    with pytest.raises(ConfigError, match="this billing is guarded already"):
        guard(guarded)


# What hosts call what has no name


def test_what_has_no_name_goes_by_its_class():
    """The names that frameworks give by default are nobody's."""
    from autogen_agentchat.teams import RoundRobinGroupChat
    from crewai.flow.flow import Flow, start
    from llama_index.core.agent.workflow import FunctionAgent
    from workflows import Workflow, step
    from workflows.events import StartEvent, StopEvent

    class Mine(RoundRobinGroupChat):
        """A team of a class of one's own."""

    class Digest(Flow):
        @start()
        def begin(self):
            return 1

    class Brief(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    member = host_of("autogen")._participants[0]
    unnamed = host_of("llama_index")
    agent = FunctionAgent(llm=unnamed.llm, tools=unnamed.tools)
    hosts = [hungry_crew(hungry_agent(answering())), hungry_agent(answering()), Digest(), Digest(name="daily"),
             Mine([member]), member, agent, Brief(), Brief(workflow_name="weekly")]  # fmt: skip
    assert [guard(one, FREE).name for one in hosts] == [
        "Crew", "Seeker", "Digest", "daily", "Mine", "seeker", "FunctionAgent", "Brief", "weekly",
    ]  # fmt: skip


def test_graphs_go_by_their_names_and_entrypoints_by_their_functions():
    """LangGraph calls all others LangGraph."""
    from langgraph.func import entrypoint

    from tests.adapters.langgraph_doubles import one_node

    @entrypoint()
    def digest(text: str) -> str:
        return text

    assert guard(one_node(lambda _: {"found": []}), FREE).name == "CompiledStateGraph"
    assert guard(digest, FREE).name == "digest"
    assert guard(host_of("langgraph", name="refunds"), FREE).name == "refunds"


# What is read of CrewAI


def test_a_crew_keeps_its_version_whatever_its_inputs_are():
    """CrewAI writes them into the texts of its agents and tasks."""
    agent = hungry_agent(answering(), role="{topic} expert", goal="know {topic}")
    guarded = guard(hungry_crew(agent), FREE, verify=lambda *_: True, store=MemoryStore())
    versions = {guarded.run({"topic": topic}).reliability.version for topic in ("gzip", "tar", "zstd")}
    assert agent.goal == "know zstd"
    assert len(versions) == 1


def test_a_crew_whose_manager_is_made_at_kickoff_keeps_its_version():
    """It is no agent that anybody declared."""
    crew = hungry_crew(hungry_agent(answering()), process="hierarchical", manager_llm=answering())
    guarded = guard(crew, FREE, verify=lambda *_: True, store=MemoryStore())
    versions = {run(guarded) for _ in range(3)}
    assert crew.manager_agent is not None
    assert len(versions) == 1


def test_a_crew_that_is_changed_between_two_runs_is_another_version():
    """Without being guarded anew."""
    agent = hungry_agent(answering())
    crew = hungry_crew(agent)
    guarded = guard(crew, FREE, verify=lambda *_: True, store=MemoryStore())
    first = run(guarded)
    agent.llm.model = "large"
    second = run(guarded)
    crew.tasks[0].tools = [crewai_doubles.Look(name="search")]
    assert len({first, second, run(guarded)}) == 3


def test_what_raises_when_it_is_read_is_left_out():
    """It never fails a run."""

    class Shy(HungryLLM):
        def __getattribute__(self, name):
            if name == "model" and sys._getframe(1).f_code.co_name == "model_name" and self.shy:
                raise RuntimeError("not for you")
            return super().__getattribute__(name)

        shy: bool = False

    class Odd:
        @property
        def prompt(self):
            raise RuntimeError("not for you")

        name = "odd"

    assert read(Odd(), "prompt", "name") == {"name": "odd"}
    llm = Shy(answer_after=0)
    crew = hungry_crew(hungry_agent(llm))
    guarded = guard(crew, FREE, verify=lambda *_: True, store=MemoryStore())
    llm.shy = True
    assert guarded.runtime.definition()[1] == [
        ["Agent", ["Seeker ", "know", crewai_doubles.BACKSTORY], None, ["look"], {}]
    ]


# What is read of a graph


CHAT = TOLD = None


def by_name(_):
    return {"found": [CHAT.invoke([TOLD])]}


def test_the_models_and_prompts_of_a_graphs_own_nodes_are_read():
    """In closures, in attributes of who has the node for a method, and by the names that a function looks up."""
    from langchain_core.messages import SystemMessage
    from langchain_core.prompts import ChatPromptTemplate

    from crew_guard.adapters.langgraph.defining import definition_of as definition
    from tests.adapters.langgraph_doubles import one_node

    def made(prompt, model):
        chat, text = defined_hosts.NamedChat(model=model), SystemMessage(prompt)
        return one_node(lambda _: {"found": [chat.invoke([text])]})

    class Writer:
        def __init__(self, prompt, model):
            template = ChatPromptTemplate.from_messages([("system", prompt)])
            self.chain = template | defined_hosts.NamedChat(model=model)
            self.said = ["what it collects is no part of it"]

        def work(self, _):
            return {"found": [self.chain.invoke({})]}

    known = {"CHAT": defined_hosts.NamedChat(model="small"), "TOLD": SystemMessage("be brief")}
    named = FunctionType(by_name.__code__, known)
    for graph in (made("be brief", "small"), one_node(Writer("be brief", "small").work), one_node(named)):
        assert definition(graph)[1]["writer"] == [["custom:small"], [], ["be brief"]]
    assert definition(made("be brief", "small")) == definition(made("be brief", "small"))


def test_other_nodes_or_edges_are_another_graph():
    """A function's own code is not read."""
    from langgraph.graph import END, START, StateGraph

    from crew_guard.adapters.langgraph.defining import definition_of as definition
    from tests.adapters.langgraph_doubles import Findings

    def graph(*path):
        made = StateGraph(Findings)
        for name in sorted(path):
            made.add_node(name, lambda _: {"found": []})
        for start, end in zip((START, *path), (*path, END), strict=True):
            made.add_edge(start, end)
        return made.compile()

    read_each = [json.dumps(definition(graph(*path))) for path in (("a", "b"), ("b", "a"), ("a", "c"), ("a", "b"))]
    assert len(set(read_each)) == 3


# Values in general


def test_values_are_read_alike_everywhere():
    """Of an object its class is taken, and nothing that says where it is."""
    assert plain({"b": {3, 1}, "a": (1, object(), int), 2: None}) == {
        "b": ["1", "3"],
        "a": [1, "object", "int"],
        "2": None,
    }
    endless = []
    endless.append(endless)
    assert "list" in json.dumps(plain(endless))


def test_a_name_is_one_line():
    """As of a role in YAML."""
    assert called(" the\n writer ", None, 3) == "the writer"
    assert called("  ", None, 3) == "int"
