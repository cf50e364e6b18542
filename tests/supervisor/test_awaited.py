"""Runs that are awaited work on the loop of who awaits them: what is open there can be used, and nothing is left."""

import asyncio
import gc
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, chain, guard, tool
from crew_guard.adapters.native import compiled as native
from crew_guard.errors import CrewGuardError
from crew_guard.loops import at_the_end, done_on
from crew_guard.store.memory import MemoryStore
from crew_guard.supervisor.loop import engine_loop
from crew_guard.testing import Reply, ScriptedModel
from crew_guard.testing.clock import no_time_passes
from crew_guard.testing.crews import Session, left_over, limits, never, reason_of, searcher

ASKS = Reply(tools=(("look", '{"query": "rivers"}'),))


def within_time(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 30))


def supervisor(*replies: Reply | str, **options: Any) -> Supervisor:
    return Supervisor(options.pop("policy", limits()), model=ScriptedModel(replies), store=MemoryStore(), **options)


def test_verifiers_workflows_and_guardrails_are_asked_on_the_callers_loop() -> None:
    """Whatever is the user's: nothing of it is on the supervisor's thread."""
    seen: dict[str, Any] = {}

    async def verify(output: str, _context: Any) -> bool:
        seen["verifier"] = asyncio.get_running_loop()
        return output == "never"

    async def path(_: Any) -> str:
        seen["node"] = asyncio.get_running_loop()
        return "from the workflow"

    async def look_at(content: Any) -> Any:
        from crew_guard.core.content import PASSED

        seen[f"guardrail of {content.place}"] = asyncio.get_running_loop()
        return PASSED

    class Looks:
        name, runs = "looks", "loop"
        check = staticmethod(look_at)

    crew = Crew(
        [Agent(Role(name="ann", goal="work"))],
        [Task("go", verify=verify, guardrails=[Looks()])],
        fallback=chain(path),
    )

    async def main() -> Any:
        result = await supervisor("an answer").arun(crew)
        assert (result.done, result.output) == (True, "from the workflow"), result
        assert len(seen) == 3
        assert {name for name, loop in seen.items() if loop is not asyncio.get_running_loop()} == set()

    within_time(main())


def test_a_workflow_by_itself_works_there_too() -> None:
    """And what it asks is there."""

    async def main() -> Any:
        async with Session() as session:

            async def node(inputs: dict[str, Any]) -> str:
                return await session.ask(inputs["query"])

            return await supervisor().arun(chain(node), {"query": "rivers"})

    assert within_time(main()).output == "answer to rivers"


def test_a_stream_may_work_there_and_is_read_there() -> None:
    """astream, item by item."""

    async def main() -> Any:
        async with Session() as session:

            @tool
            async def look(query: str) -> str:
                """Look it up."""
                return await session.ask(query)

            stream = supervisor(ASKS, "done").astream(searcher(look))
            names = [type(item).__name__ async for item in stream]
            assert names[-1] == "RunEnded"
            return stream.result

    assert within_time(main()).done


def test_a_stream_that_would_wait_for_itself_is_refused() -> None:
    """`for` blocks the very loop that the run works on."""

    async def main() -> None:
        stream = supervisor("done").astream(searcher())
        with pytest.raises(CrewGuardError, match="use `async for`"):
            for _ in stream:
                pass

    within_time(main())
    with pytest.raises(CrewGuardError, match="use stream"):
        supervisor("done").astream(searcher())


def test_a_stream_that_is_refused_leaves_nothing_unawaited(recwarn: pytest.WarningsRecorder) -> None:
    """Its work, which waits for the loop that the reader blocks, is closed when that goes on."""
    asked = threading.Event()
    made: list[Coroutine[Any, Any, Any]] = []

    class Noted:
        def __init__(self, *given: Any) -> None:
            self._runtime = native(*given)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._runtime, name)

        def run(self, *arguments: Any) -> Any:
            made.append(self._runtime.run(*arguments))
            asked.set()
            return made[0]

    async def main() -> None:
        stream = supervisor("done", runtime=Noted).astream(searcher())
        assert asked.wait(10)
        for _ in range(3):  # until the supervisor's loop has sent it here
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), engine_loop().loop).result(10)
        with pytest.raises(CrewGuardError, match="use `async for`"):
            list(stream)
        while made[0].cr_frame is not None:
            await asyncio.sleep(0)

    within_time(main())
    made.clear()
    gc.collect()
    assert not [one for one in recwarn if "never awaited" in str(one.message)]


def test_leaving_a_stream_ends_what_works_there() -> None:
    """As with any stream: its tool is cancelled, and no task is left."""
    ended: list[str] = []

    async def main() -> None:
        before, begun = asyncio.all_tasks(), asyncio.Event()

        @tool
        async def look(query: str) -> str:
            """Look it up."""
            begun.set()
            try:
                await never()
            except asyncio.CancelledError:
                ended.append(query)
                raise
            return query

        stream = supervisor(ASKS, "done").astream(searcher(look))
        async with stream:
            async for item in stream:
                if getattr(item, "target", "") == "look":
                    await begun.wait()
                    break
        assert stream.result.status == "stopped"
        left = asyncio.all_tasks() - before
        if left:
            await asyncio.wait(left, timeout=5)
        assert not [task for task in left if not task.done()]

    within_time(main())
    assert ended == ["rivers"]
    assert not left_over()


def test_a_tool_that_blocks_the_callers_loop_holds_up_no_other_run() -> None:
    """The deadline holds: other runs go on meanwhile, and the result is there as soon as its loop turns again."""
    blocked, others = threading.Event(), threading.Event()

    @tool
    async def look(query: str) -> str:
        """Block."""
        blocked.set()
        others.wait(20)
        return query

    async def main() -> Any:
        return await supervisor(ASKS, "late", policy=limits(max_seconds=9)).arun(searcher(look))

    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(main())))
    with no_time_passes() as time_is_up:
        thread.start()
        assert blocked.wait(20)
        time_is_up()
        assert supervisor("fine").run(searcher()).output == "fine"
    others.set()
    thread.join(20)
    assert reason_of(found[0]) == "deadline"
    assert not left_over()


def test_a_loop_that_is_closed_under_a_run_ends_it() -> None:
    """Not by asyncio.run, which would end its tasks: by a loop that just stops turning."""
    supervised = supervisor(Reply("late", wait=never))
    loop = asyncio.new_event_loop()

    async def main() -> None:
        run = asyncio.ensure_future(supervised.arun(searcher(), run_id="left"))
        run.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    gc.collect()
    supervised.kill("left")  # where it has not found that out itself
    assert not left_over()


def test_work_for_a_loop_that_is_closed_is_cancelled() -> None:
    """And never begun."""
    loop = asyncio.new_event_loop()
    loop.close()

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await done_on(loop, never())

    asyncio.run(main())


def test_what_is_to_be_closed_is_closed_with_its_loop_or_when_it_is_let_go_of() -> None:
    """Each once."""
    closed: list[str] = []
    kept: list[object] = []

    async def main() -> None:
        gone = asyncio.Event()

        async def close(name: str) -> None:
            closed.append(name)
            gone.set()

        kept.append(at_the_end(lambda: close("with the loop")))
        at_the_end(lambda: close("let go of"))
        gc.collect()
        await asyncio.wait_for(gone.wait(), 10)
        assert closed == ["let go of"]

    asyncio.run(main())
    assert closed == ["let go of", "with the loop"]


def test_hosts_are_guarded_by_the_same_words() -> None:
    """arun and astream of guard() work there as well."""
    workflows = pytest.importorskip("workflows")
    from workflows.events import StartEvent, StopEvent

    class Looking(workflows.Workflow):  # type: ignore[misc]
        @workflows.step
        async def look(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=asyncio.get_running_loop())

    async def main() -> None:
        guarded = guard(Looking(timeout=None), Policy(name="roomy"), store=MemoryStore())
        here = asyncio.get_running_loop()
        assert (await guarded.arun({})).output is here
        stream = guarded.astream({})
        async for _ in stream:
            pass
        assert stream.result.output is here

    within_time(main())


def test_a_run_whose_loop_is_gone_ends_by_itself() -> None:
    """Nobody kills it, and it has no deadline: that its loop is closed is enough."""
    ended = threading.Event()
    loop = asyncio.new_event_loop()

    def told(_run_id: str, event: Any) -> None:
        if type(event).__name__ == "RunEnded":
            ended.set()

    supervised = supervisor(Reply("late", wait=never), observers=[told])
    held: list[Any] = []

    async def main() -> None:
        held.append(supervised.astream(searcher()))
        async for item in held[0]:
            if type(item).__name__ == "Admitted":
                break
        held.extend(asyncio.all_tasks())

    loop.run_until_complete(main())
    for task in held[1:]:
        task._log_destroy_pending = False
    loop.close()
    assert ended.wait(20)


def test_what_ended_work_has_made_is_handed_over() -> None:
    """As on the supervisor's own loop: a host that is ended may have something so far."""

    begun = threading.Event()

    async def partly() -> str:
        try:
            begun.set()
            await never()
        except asyncio.CancelledError:
            return "so far"
        return ""

    async def main() -> None:
        home = asyncio.get_running_loop()

        def elsewhere() -> str:
            async def waits() -> str:
                errand = asyncio.ensure_future(done_on(home, partly()))
                await asyncio.to_thread(begun.wait)
                errand.cancel()
                return await errand

            return asyncio.run(waits())

        assert await asyncio.to_thread(elsewhere) == "so far"

    within_time(main())


def test_a_task_factory_that_raises_is_told_and_holds_up_nobody() -> None:
    """Work that can't begin is an error of its own."""

    async def one() -> int:
        return 1

    async def main() -> None:
        home = asyncio.get_running_loop()
        raised: list[int] = []

        def factory(loop: Any, work: Any, **options: Any) -> Any:
            if not raised:
                raised.append(1)
                raise ValueError("no task")
            return asyncio.Task(work, loop=loop, **options)

        def elsewhere() -> list[Any]:
            async def both() -> list[Any]:
                return await asyncio.gather(done_on(home, one()), done_on(home, one()), return_exceptions=True)

            return asyncio.run(both())

        work = asyncio.ensure_future(asyncio.to_thread(elsewhere))
        home.set_task_factory(factory)
        try:
            results = await work
        finally:
            home.set_task_factory(None)
        assert [str(result) for result in results] == ["no task", "1"]

    within_time(main())


def test_run_is_refused_where_it_would_block_the_run_around_it() -> None:
    """In an async tool of an awaited run; arun works there."""
    inner = supervisor("inner", "inner")
    said: list[str] = []

    @tool
    async def look(query: str) -> str:
        """Run another crew."""
        with pytest.raises(CrewGuardError, match=r"use arun\(\) there"):
            inner.run(searcher())
        said.append((await inner.arun(searcher())).output)
        return query

    result = within_time(supervisor(ASKS, "done").arun(searcher(look)))
    assert result.done, result
    assert said == ["inner"]
