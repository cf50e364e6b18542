"""Every runtime keeps the same contract: our own, and each host with crews of ours and of its own."""

import importlib
from contextlib import suppress
from typing import ClassVar

from crew_guard import Agent, Crew, Policy, Result, Role, Supervisor, Task
from crew_guard.adapters.native import NativeRuntime
from crew_guard.core.messages import ModelReply, ModelRequest, ToolRequest
from crew_guard.core.usage import FREE, Usage
from crew_guard.errors import RefusedError
from crew_guard.ports import CallTerms, Gate, RuntimeResult
from crew_guard.store.memory import MemoryStore
from crew_guard.testing.crews import Looking, Served
from crew_guard.testing.runtime_contract import RuntimeContract
from tests.adapters.guarding import Guard
from tests.benchmarks.served import Provider


class Billing(Provider):
    """Asks its tool for something else at each call, and bills what it serves."""

    def __init__(self, served: Served) -> None:
        super().__init__(rates=FREE)
        self._served = served

    def bound_request(self, tools, output_schema):
        return self._served.prompt

    def bound(self, message):
        return 0

    async def complete(self, request: ModelRequest, max_tokens, on_text) -> ModelReply:
        made = self._served.bill(max_tokens)
        asked = ToolRequest(f"t{self._served.calls}", "look", f'{{"query": "x{self._served.calls}"}}')
        return ModelReply("", (asked,), Usage(input_tokens=self._served.prompt, output_tokens=made))


class Stubborn:
    """A runtime whose agent asks its model fifty times, whatever it is told."""

    name = "stubborn"

    def __init__(self, model: Billing) -> None:
        self._model = model

    def members(self):
        return ["ann"]

    async def run(self, inputs, gate: Gate) -> RuntimeResult:
        request = ModelRequest([], prompt_tokens=self._model.bound_request((), None))
        for _ in range(50):
            try:
                await gate.call_model("ann", self._model, request, CallTerms())
            except RefusedError:
                continue
        return RuntimeResult("as if nothing had happened")


class TestNative(RuntimeContract):
    """Our own runtime, handed over as a host of somebody else's would be."""

    runtime = staticmethod(NativeRuntime)

    def run_own(self, served: Served, policy: Policy, *, stubborn: bool = False) -> Result:
        supervisor = Supervisor(policy, model=Billing(served), store=MemoryStore())
        if stubborn:
            return supervisor.run_runtime(Stubborn(Billing(served)), {}, name="stubborn").wait()
        return supervisor.run(Crew([Agent(Role(name="ann", goal="x"), [Looking().tool])], [Task("go")]))


class HostContract(RuntimeContract):
    """What the hosts have in common: crews of their own under guard()."""

    package: str
    inputs: ClassVar = {"task": "Find everything."}

    def own(self, served: Served, *, stubborn: bool) -> object:
        raise NotImplementedError

    def run_own(self, served: Served, policy: Policy, *, stubborn: bool = False) -> Result:
        adapter = importlib.import_module(f"crew_guard.adapters.{self.package}")
        return Guard(adapter, self.own(served, stubborn=stubborn), policy).run(**self.inputs)


class Billed:
    """The doubles' counter on top of the contract's."""

    def __init__(self, served: Served) -> None:
        self.prompt = served.prompt
        self._served = served

    def bill(self, max_tokens):
        made = self._served.bill(max_tokens)
        return self._served.calls, made


class TestAutoGen(HostContract):
    """AutoGen, and the crews that become its agents and teams."""

    runtime = "autogen"
    package = "autogen"

    def own(self, served: Served, *, stubborn: bool) -> object:
        from tests.adapters.autogen_doubles import HungryClient, SwallowingAgent, hungry_agent

        client = HungryClient()
        client.served = Billed(served)
        return hungry_agent(client, **({"kind": SwallowingAgent} if stubborn else {}))


class TestCrewAI(HostContract):
    """CrewAI, and the crews that become its own."""

    runtime = "crewai"
    package = "crewai"
    processes = ("sequential", "parallel", "hierarchical")

    def own(self, served: Served, *, stubborn: bool) -> object:
        from crewai.flow.flow import Flow, start

        from tests.adapters.crewai_doubles import BACKSTORY, HungryLLM, hungry_agent

        llm = HungryLLM()
        llm._served = Billed(served)
        if not stubborn:
            return hungry_agent(llm)

        class Asking(Flow):
            @start()
            def ask(self):
                for _ in range(50):
                    with suppress(Exception):
                        llm.call(BACKSTORY)

        return Asking()


class TestLangGraph(HostContract):
    """LangGraph, and the crews that become its graphs."""

    runtime = "langgraph"
    package = "langgraph"

    def own(self, served: Served, *, stubborn: bool) -> object:
        from langgraph.graph import START, StateGraph

        from tests.adapters.langgraph_doubles import SYSTEM, Findings, HungryChat, hungry_agent

        model = HungryChat()
        model.served = Billed(served)
        if not stubborn:
            return hungry_agent(model)

        def ask(state):
            for _ in range(50):
                with suppress(Exception):
                    model.invoke(SYSTEM)

        self.inputs = {"found": []}
        graph = StateGraph(Findings)
        graph.add_node("ask", ask)
        graph.add_edge(START, "ask")
        return graph.compile()


class TestLlamaIndex(HostContract):
    """LlamaIndex, and the crews that become its workflows."""

    runtime = "llama-index"
    package = "llama_index"

    def own(self, served: Served, *, stubborn: bool) -> object:
        from tests.adapters.llama_index_doubles import AskingWorkflow, HungryLLM

        llm = HungryLLM()
        llm._served = Billed(served)
        return AskingWorkflow(llm, swallow=stubborn)
