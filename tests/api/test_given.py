"""What a supervisor is given: models at the policy's price, stores that close, words for what it can't work with."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crew_guard import (
    Agent,
    Crew,
    NodeContext,
    Policy,
    Role,
    Supervisor,
    Task,
    chain,
    load_crew_files,
    load_policy,
    load_role,
    node,
)
from crew_guard.core.messages import ModelReply
from crew_guard.core.usage import FREE, Rate, Rates
from crew_guard.errors import ConfigError
from crew_guard.store.sqlite import SqliteStore
from crew_guard.testing import MemoryStore, ScriptedModel
from crew_guard.tools.files import file_tools
from crew_guard.tools.http import http_tools
from tests.forks import forked

CREW = Crew([Agent(Role(name="a", goal="g"))], [Task("x")])
NAME = "scripted:test"
odd: Any = 5
odd_text: Any = "5"


def policy(price: float, **limits: Any) -> Policy:
    return Policy.model_validate(
        {"limits": {"max_usd": 1, **limits}, "prices": {NAME: {"input": price, "output": price}}}
    )


# Prices


@pytest.mark.parametrize("rates", [None, FREE])
@pytest.mark.parametrize("how", ["object", "named"])
@pytest.mark.parametrize("runtime", ["native", "crewai", "autogen", "langgraph", "llama-index"])
def test_a_policys_price_holds_for_a_model_object(rates: Rates | None, how: str, runtime: str):
    """Whatever the object says that it costs, and however it is found: cheap it is paid for, dear it is refused."""
    for price, status in ((1, "done"), (1_000_000, "stopped")):
        model = ScriptedModel(["hello"], rates=rates)
        given: dict[str, Any] = {"model": model} if how == "object" else {"model": NAME, "models": {NAME: model}}
        result = Supervisor(policy(price), store=MemoryStore(), runtime=runtime, **given).run(CREW)
        assert result.status == status, result
        assert (result.usage.nano_usd > 0) is (status == "done")


def test_of_an_objects_price_and_the_policys_the_dearer_holds():
    """An object can't undercut a policy, and a policy can't make a dear model cheap."""
    own = Rates(Rate(7), Rate(5_000_000_000))
    model = Supervisor(policy(2), model=ScriptedModel(["x"], rates=own)).model_named(None)
    assert model.rates is not None
    assert (model.rates.input.base, model.rates.output.base) == (2_000_000_000, 5_000_000_000)


def test_a_model_is_priced_by_what_it_is_called_here_too():
    """A name in models= counts as the object's own does; without a price the object is asked as it is."""
    model = ScriptedModel(["x"], rates=FREE)
    prices = {"limits": {"max_usd": 1}, "prices": {"mine": {"input": 3, "output": 3}}}
    supervisor = Supervisor(Policy.model_validate(prices), model=model, models={"mine": model})
    assert supervisor.model_named(None) is model
    found = supervisor.model_named("mine")
    assert found is supervisor.model_named("mine")
    assert found.rates is not None
    assert found.rates.input.base == 3 * 10**9


LAB = "lab:big (scripted:test) is "


@pytest.mark.parametrize(
    ("lists", "refusal"),
    [
        ({"deny": ["lab:*"]}, f"{LAB}denied by the policy's models.deny"),
        ({"deny": ["scripted:*"]}, f"{LAB}denied by the policy's models.deny"),
        ({"deny": ["lab:small"]}, ""),
        ({"allow": ["lab:*"]}, ""),
        ({"allow": ["scripted:*"]}, ""),
        ({"allow": ["openai:*"]}, f"{LAB}not among the policy's models.allow: openai:*"),
        ({"allow": ["lab:*"], "deny": ["scripted:*"]}, f"{LAB}denied by the policy's models.deny"),
        ({"allow": ["lab:*"], "allow_also": [["scripted:*"]]}, ""),
        ({"allow": ["lab:*"], "allow_also": [["openai:*"]]}, f"{LAB}not among the policy's models.allow: openai:*"),
    ],
)
@pytest.mark.parametrize("runtime", ["native", "crewai", "autogen", "langgraph", "llama-index"])
def test_a_policys_lists_hold_for_either_name_of_a_model_object(lists: Any, refusal: str, runtime: str):
    """What `models=` calls it, and what it calls itself: none may be denied, one must be allowed."""
    supervisor = Supervisor(
        Policy.model_validate({"models": lists}),
        model="lab:big",
        models={"lab:big": ScriptedModel(["hello"])},
        store=MemoryStore(),
        runtime=runtime,
    )
    result = supervisor.run(CREW)
    assert (result.status, result.stopped.detail if result.stopped else "") == (
        "denied" if refusal else "done",
        refusal,
    )


def test_a_dollar_cap_that_refuses_a_model_names_what_its_user_calls_it():
    """That is a name under which it can be given a price."""
    model = ScriptedModel(["hello"], rates=None)
    capped = Policy.model_validate({"limits": {"max_usd": 1}})
    result = Supervisor(capped, model="lab:big", models={"lab:big": model}, store=MemoryStore()).run(CREW)
    assert result.stopped is not None
    assert result.stopped.detail.startswith("no price is known for lab:big (scripted:test), and a dollar cap applies")


@pytest.mark.parametrize("how", ["its model", "asked by it"])
def test_a_policys_price_holds_for_the_object_of_a_node(how: str):
    """A workflow's node that asks a model object is charged the policy's price, as a crew's agent is."""
    for price, status in ((1, "done"), (1_000_000, "stopped")):
        model = ScriptedModel(["hello"], rates=None)

        async def ask(_: Any, ctx: NodeContext, model: ScriptedModel = model) -> str:
            return await ctx.ask(model, "a question")

        step = node(lambda value: "a question", name="ask", model=model) if how == "its model" else node(ask)
        result = Supervisor(policy(price), store=MemoryStore()).run(chain(step))
        assert result.status == status, result
        assert (result.usage.nano_usd > 0) is (status == "done")


# Models


class Mine:
    """A model class of a user's own."""

    name: Any = "mine:x"
    rates = None
    window = None
    streams = False
    tokens: Any = 12

    def bound(self, message: object) -> Any:
        return self.tokens

    def bound_request(self, tools: object, schema: object) -> int:
        return 0

    async def complete(self, request: object, max_tokens: int, on_text: object) -> ModelReply:
        return ModelReply("hello")


@pytest.mark.parametrize("tokens", [9.25, -5, float("nan"), True])
def test_a_bound_that_is_no_number_of_tokens_ends_the_run_before_the_call(tokens: Any, tmp_path: Path):
    """The error says what bound() must give; nothing was asked, and the journal can be read."""
    model = Mine()
    model.tokens = tokens
    model.bound_request = lambda tools, schema: tokens - tokens if tokens == tokens else 0  # noqa: PLR0124  a NaN
    if tokens is True:
        model.bound = lambda message: 2.0
    with Supervisor(Policy(), model=model, store=tmp_path / "runs.db") as supervisor:
        result = supervisor.run(CREW)
    assert result.status == "failed"
    assert "mine:x bounds a prompt at" in result.error
    assert "bound_request() must give whole numbers" in result.error
    assert result.usage.steps == 0
    assert list(SqliteStore(tmp_path / "runs.db").read(result.run_id))


def test_a_model_without_a_name_is_refused():
    """Journals and policies know models by it."""
    model = Mine()
    model.name = None
    with pytest.raises(ConfigError, match=r"the name of .* must be a text as PROVIDER:NAME, not None"):
        Supervisor(Policy(), model=model)


# Arguments


def both(run_id: str, event: object) -> None:
    del run_id, event


async def awaited(run_id: str, event: object) -> None:
    del run_id, event


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Supervisor(store=odd), "store must be the path of a SQLite file, or a Store .*, not 5"),
        (
            lambda: Supervisor(observers=print),
            r"observers must be a list of functions \(run_id, event\), not <built-in",
        ),
        (lambda: Supervisor(observers=[odd]), r"an observer must be a function \(run_id, event\), not 5"),
        (lambda: Supervisor(observers=[lambda event: None]), r"is called with \(run_id, event\); .* takes \(event\)"),
        (lambda: Supervisor(observers=[[].append]), r"is called with \(run_id, event\)"),
        (lambda: Supervisor(observers=[awaited]), "called and not awaited: .* must be no async function"),
        (lambda: Supervisor(model=odd), "model must be a Model .*, not 5, which has no name, rates"),
        (lambda: Supervisor(odd), "policy must be a Policy, a file or a name, not 5"),
        (lambda: load_policy(odd), "name must be the path of a policy's file, or a policy's name, not 5"),
        (lambda: load_role(odd), "name must be the path of a role's file, or a role's name, not 5"),
        (lambda: load_crew_files(odd, "t.yaml"), "agents must be the path of crewAI's agents.yaml, not 5"),
        (lambda: load_crew_files("a.yaml", odd), "tasks must be the path of crewAI's tasks.yaml, not 5"),
        (
            lambda: load_crew_files("a.yaml", "t.yaml", tools=[odd]),
            r"tools must be a mapping of the files' names to tools, \{'search': search\}, not \[5\]",
        ),
        (lambda: load_crew_files("a.yaml", "t.yaml", outputs=odd), "outputs must be a mapping .*, not 5"),
        (lambda: load_crew_files("a.yaml", "t.yaml", verifiers=odd), "verifiers must be a mapping .*, not 5"),
        (lambda: load_crew_files("a.yaml", "t.yaml", models=odd), "models must be a mapping .*, not 5"),
        (lambda: load_crew_files("a.yaml", "t.yaml", ignore="max_rpm"), "ignore must be a list of keys, .* not 'max_"),
        (
            lambda: Supervisor(model=""),
            "model is empty: expected a model's name such as 'openai:gpt-4.1-mini', or None",
        ),
        (lambda: Supervisor(Policy()).model_named(""), "there is no model ''; known are"),
        (lambda: Supervisor(base_url=odd), "base_url must be a URL such as http://127.0.0.1:8000/v1, not 5"),
        (lambda: Supervisor(runtime=[odd]), r"runtime must be a runtime's name, .*, or a function, not \[5\]"),
        (lambda: SqliteStore(None), "path must be the path of a SQLite file, not None"),
        (lambda: SqliteStore("runs.db", busy_seconds=odd_text), "busy_seconds must be seconds, 0 or more, not '5'"),
        (lambda: file_tools(odd), "file_tools: root must be the path of a folder, not 5"),
        (lambda: http_tools(odd), "the hosts of http_tools must be a list, not 5"),
        (lambda: http_tools([odd]), "each of the hosts of http_tools must be a str, not 5"),
        (
            lambda: http_tools([], methods=["PUT"]),
            "each of the methods of http_tools must be 'GET' or 'POST', not 'PUT'",
        ),
        (lambda: http_tools([], max_seconds=odd_text), "http_tools: max_seconds must be seconds, more than 0, not '5'"),
        (lambda: Supervisor(models=[odd]), "models must be a mapping of names to models"),
        (lambda: Supervisor(models={"m": odd}), r"models\['m'\] must be a Model"),
        (lambda: Supervisor(Policy(), model=ScriptedModel([])).run(CREW, run_id=odd), "run_id must be a text, not 5"),
        (lambda: Supervisor(Policy(), model=ScriptedModel([])).run(CREW, run_id=""), "run_id is empty"),
        (lambda: Supervisor(Policy(), model=ScriptedModel([])).run(CREW, run_id="\ud800"), "a lone surrogate"),
    ],
)
def test_what_it_cant_work_with_is_named(build: Callable[[], object], said: str, tmp_path: Path, monkeypatch: Any):
    """Argument, value and what was expected, in one sentence, before anything runs."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said):
        build()


@pytest.mark.parametrize("inputs", ["", 0, False, [], "topic"])
def test_what_is_no_mapping_is_no_inputs(inputs: Any):
    """What is false in Python, too; for a workflow as for a crew."""
    supervisor = Supervisor(Policy(), model=ScriptedModel(["x"]), store=MemoryStore())
    for worker in (CREW, chain(node(lambda value: value, name="same"))):
        with pytest.raises(ConfigError, match="inputs must be a mapping of names to values, not "):
            supervisor.run(worker, inputs)


def test_observers_that_can_be_told_are_accepted():
    """A function of two, a method, a callable object, a builtin that doesn't say what it takes."""
    Supervisor(observers=[both, print, lambda *told: None])


# Stores


def supervised(store: Path) -> Supervisor:
    return Supervisor(Policy(), model=ScriptedModel(["x"], repeat=True), store=store)


def threads_of(store: Path) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"journal {store.name}"]


def test_a_supervisor_lets_go_of_its_file_on_the_way_out(tmp_path: Path):
    """No thread and no file stays; a later run opens it again."""
    store = tmp_path / "left.db"
    with supervised(store) as supervisor:
        assert supervisor.run(CREW).done
        assert threads_of(store)
    assert not threads_of(store)
    assert supervisor.run(CREW).done
    supervisor.close()
    assert not threads_of(store)
    assert len(SqliteStore(store).runs()) == 2


def test_two_supervisors_share_a_file_until_both_have_let_go(tmp_path: Path):
    """The one that is left goes on writing."""
    store = tmp_path / "shared.db"
    one, other = supervised(store), supervised(store)
    assert one.run(CREW).done
    assert other.run(CREW).done
    assert len(threads_of(store)) == 1
    one.close()
    assert other.run(CREW).done
    other.close()
    assert not threads_of(store)


def test_a_store_that_was_given_is_not_closed(tmp_path: Path):
    """Who opened it closes it."""
    store = SqliteStore(tmp_path / "given.db")
    with Supervisor(Policy(), model=ScriptedModel(["x"]), store=store) as supervisor:
        supervisor.run(CREW)
    assert not store.closed
    store.close()


def test_a_run_keeps_its_file_open_whoever_has_gone(tmp_path: Path):
    """A supervisor that was closed, and is garbage: its run under way is written to its end, and read as a stream."""
    store, go_on = tmp_path / "under-way.db", threading.Event()

    async def held() -> None:
        await asyncio.to_thread(go_on.wait, 30)

    supervisor = Supervisor(Policy(), model=ScriptedModel(["x"], wait=held), store=store)
    stream = supervisor.stream(CREW)
    supervisor.close()
    del supervisor
    gc.collect()
    assert threads_of(store)
    go_on.set()
    *_, last = stream
    assert type(last).__name__ == "RunEnded"
    assert stream.result.done
    for thread in threads_of(store):
        thread.join(30)
    assert not threads_of(store)
    assert [run.status for run in SqliteStore(store).runs()] == ["done"]


def test_a_supervisor_for_each_run_finds_its_file_open(tmp_path: Path):
    """Nobody holds it in between: it stays open all the same, as one of a few."""
    store = tmp_path / "often.db"
    for _ in range(3):
        assert supervised(store).run(CREW).done
        gc.collect()
    (thread,) = threads_of(store)
    others = [tmp_path / f"{number}.db" for number in range(10)]
    for other in others:
        assert supervised(other).run(CREW).done
        gc.collect()
    thread.join(30)
    assert not thread.is_alive()
    assert len([other for other in others if threads_of(other)]) <= 9
    assert len(SqliteStore(store).runs()) == 3


MANY = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, Verdict
from crew_guard.errors import ConfigError, StoreError
from crew_guard.testing import ScriptedModel
task = Task("x", verify=lambda output, context: True, guardrails=[lambda text: (True, text)])
crew = Crew([Agent(Role(name="a", goal="g"))], [task])
kept = []
try:
    for number in range(int(sys.argv[1])):
        supervisor = Supervisor(Policy(), model=ScriptedModel(["x"]), store=f"{number}.db")
        result = supervisor.run(crew)
        assert result.done, result
        if sys.argv[2] == "kept":
            kept.append(supervisor)
    print("all", number + 1)
except StoreError as error:
    print(error)
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize(("what", "said"), [("dropped", "all 60"), ("kept", "as many files open as it may (96)")])
def test_files_run_out_only_where_somebody_holds_them(tmp_path: Path, what: str, said: str):
    """A store a tenant: what is dropped is closed; what is held is named as the reason, with the way out."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", MANY, "60", what], capture_output=True, text=True, cwd=tmp_path, env=env, check=False
    )
    assert said in done.stdout, done.stdout + done.stderr
    assert what == "dropped" or "with Supervisor(...)" in done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_opens_the_file_for_itself(tmp_path: Path):
    """A server that forks workers after a first run: each writes with a thread of its own."""
    supervisor = supervised(tmp_path / "forked.db")
    assert supervisor.run(CREW).done
    assert forked(lambda: supervisor.run(CREW).done)
    assert supervisor.run(CREW).done
    supervisor.close()
    assert len(SqliteStore(tmp_path / "forked.db").runs()) == 3
