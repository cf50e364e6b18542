"""A run as a stream: what it yields, in which order, and what happens to a run whose reader leaves."""

import asyncio
import contextlib
import gc
import re
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, Verdict, chain, tool
from crew_guard.core.events import Admitted, Event, Judged, RunEnded, RunStarted, Settled
from crew_guard.core.messages import ModelReply, ModelRequest
from crew_guard.core.stream import Budget, Missed, StreamItem, TextDelta
from crew_guard.errors import CrewGuardError, JournalConflictError, ModelError
from crew_guard.store.sqlite import SqliteStore
from crew_guard.supervisor import streaming
from crew_guard.supervisor.buffer import Buffer
from crew_guard.testing import MemoryStore, Reply, ScriptedModel

ANSWER = "gzip compresses files and streams alike"


class Talker(ScriptedModel):
    """Says its texts word by word, those of answers that break off, too."""

    def __init__(self, script: Any, **options: Any) -> None:
        super().__init__(script, streams=True, **options)

    async def complete(self, request: ModelRequest, max_tokens: int, on_text: Callable[[str], None]) -> ModelReply:
        try:
            reply = await super().complete(request, max_tokens, lambda _: None)
        except ModelError as error:
            on_text(error.text)
            raise
        for word in re.findall(r"\s*\S+", reply.text):
            on_text(word)
            await asyncio.sleep(0)
        return reply


class Ending:
    """An observer that says when a run has ended."""

    def __init__(self) -> None:
        self.seen = threading.Event()
        self.event: RunEnded | None = None

    def __call__(self, run_id: str, event: Event) -> None:
        if isinstance(event, RunEnded):
            self.event = event
            self.seen.set()

    def wait(self) -> RunEnded:
        assert self.seen.wait(10)
        assert self.event
        return self.event


@tool
async def look(query: str) -> str:
    """Look it up."""
    return f"about {query}"


LOOK = Reply(tools=(("look", '{"query": "gzip"}'),))


def looks(count: int) -> list[Reply]:
    """As many questions, each another one: an agent that goes in circles would be stopped."""
    return [Reply(tools=(("look", f'{{"query": "gzip {number}"}}'),)) for number in range(count)]


CREW = Crew([Agent(Role(name="researcher", goal="know"), (look,))], [Task("go", verify=lambda *_: Verdict(True))])


async def never() -> None:
    await asyncio.Event().wait()


def stuck() -> Talker:
    """Never answers."""
    return Talker([Reply("x", wait=never)])


def supervisor(model: Any = None, **options: Any) -> Supervisor:
    return Supervisor(model=model or Talker([LOOK, ANSWER]), **{"store": MemoryStore(), **options})


def events(items: list[StreamItem]) -> list[Any]:
    return [item for item in items if not isinstance(item, TextDelta | Budget | Missed)]


def text(items: list[StreamItem]) -> str:
    return "".join(item.text for item in items if isinstance(item, TextDelta))


def test_a_stream_is_the_journal_with_texts_and_budgets_between() -> None:
    """Every event in order, words between their call's admission and its end, a budget after each end."""
    store = MemoryStore()
    stream = supervisor(store=store).stream(CREW)
    items = list(stream)
    assert events(items) == list(store.read(stream.run_id))
    assert isinstance(items[0], RunStarted)
    assert isinstance(items[-1], RunEnded)
    assert stream.result.output == text(items) == ANSWER
    deltas = [item for item in items if isinstance(item, TextDelta)]
    assert len(deltas) == len(ANSWER.split())
    assert {(one.agent, one.task, one.attempt) for one in deltas} == {("researcher", "task_1", 1)}
    first, last = items.index(deltas[0]), items.index(deltas[-1])
    before, after = items[first - 1], items[last + 1]
    assert isinstance(before, Admitted)
    assert isinstance(after, Settled)
    assert before.action_id == after.action_id == deltas[0].action_id
    assert any(isinstance(item, Judged) for item in items)
    ends = [i for i, item in enumerate(items) if isinstance(item, Settled)]
    assert all(isinstance(items[i + 1], Budget) for i in ends)


def test_every_item_is_of_a_type_that_is_named() -> None:
    """StreamItem names them all, and each of them is frozen."""
    items = list(supervisor().stream(CREW))
    assert {type(item) for item in items} <= set(get_args(StreamItem))
    for item in items:
        with pytest.raises(AttributeError):
            item.seq = 0  # type: ignore[misc, union-attr]


def test_a_budget_says_what_is_used_of_each_limit() -> None:
    """The last one agrees with the result; limits that are not set are not named."""
    policy = Policy.model_validate({"limits": {"max_steps": 5, "max_usd": 2, "max_seconds": 60}})
    stream = supervisor(policy=policy).stream(CREW)
    last = [item for item in stream if isinstance(item, Budget)][-1]
    assert last.used == stream.result.usage
    assert last.limits.keys() == {"max_steps", "max_usd", "max_seconds"}
    assert last.limits["max_steps"] == (2, 5)
    assert last.limits["max_usd"] == (0.0, 2.0)
    assert 0 < last.limits["max_seconds"][0] < 60


def test_async_for_yields_the_same() -> None:
    """The same kinds of items in the same order, and the same result."""

    async def read() -> tuple[list[StreamItem], Any]:
        stream = supervisor().stream(CREW)
        return [item async for item in stream], stream.result

    items, result = asyncio.run(read())
    assert [type(item) for item in items] == [type(item) for item in supervisor().stream(CREW)]
    assert result.output == text(items) == ANSWER


def test_a_plain_loop_works_where_an_event_loop_runs() -> None:
    """As in a notebook: the run has a loop of its own."""

    async def cell() -> str:
        return text(list(supervisor().stream(CREW)))

    assert asyncio.run(cell()) == ANSWER


def test_a_model_that_does_not_stream_says_it_all_at_once() -> None:
    """Its whole text is one piece, right before its end."""
    items = list(supervisor(ScriptedModel([LOOK, ANSWER])).stream(CREW))
    assert [item.text for item in items if isinstance(item, TextDelta)] == [ANSWER]


def test_the_workflow_and_a_stop_are_in_the_stream() -> None:
    """A crew that is stopped, a fallback that answers: the stream ends as the run does."""
    fixed = chain(lambda inputs: "the fixed answer", name="fixed")
    crew = Crew(CREW.agents, CREW.tasks, fallback=fixed)
    stream = supervisor(policy=Policy.model_validate({"limits": {"max_steps": 1}})).stream(crew)
    names = [type(item).__name__ for item in stream]
    assert names.index("Latched") < names.index("FellBack") < names.index("NodeStarted") < names.index("RunEnded")
    assert (stream.result.via, stream.result.output) == ("workflow", "the fixed answer")


def test_the_text_of_an_attempt_that_failed_can_be_told_apart() -> None:
    """Its pieces have an action of their own, whose end says failed; the next attempt is numbered."""
    broken = ModelError("the connection broke", kind="broken", text="gzip is a comp", retry_after=0.0)
    items = list(supervisor(Talker([broken, ANSWER])).stream(CREW))
    texts: dict[tuple[str, int], str] = {}
    for item in items:
        if isinstance(item, TextDelta):
            key = item.action_id, item.attempt
            texts[key] = texts.get(key, "") + item.text
    ends = {item.action_id: item.status for item in items if isinstance(item, Settled)}
    assert [(ends[action], attempt, said) for (action, attempt), said in texts.items()] == [
        ("failed", 1, "gzip is a comp"),
        ("ok", 2, ANSWER),
    ]


def test_a_secret_that_comes_in_two_pieces_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a known value nor a key; what is shown is what the journal keeps."""
    monkeypatch.setenv("BANK_PASSWORD", "correct horse")
    said = "it is correct horse and sk-abcdefghij klmnop sk-abcdefghijklmnopqrst ok"
    items = list(supervisor(Talker([said])).stream(CREW))
    settled = [item for item in items if isinstance(item, Settled)][-1]
    assert text(items) == settled.text == "it is [redacted] and sk-abcdefghij klmnop [redacted] ok"


# Readers that leave


def test_leaving_the_loop_early_ends_the_run() -> None:
    """A break lets go of the stream, and the run ends, cancelled; the same in async code."""
    ending = Ending()
    for item in supervisor(stuck(), observers=[ending]).stream(CREW):
        if isinstance(item, Admitted) and item.kind == "model_call":
            break
    stop = ending.wait().stop
    assert stop
    assert (stop.reason, stop.scope) == ("cancelled", "run")
    assert "reader" in stop.detail

    ended = Ending()

    async def read() -> None:
        async for item in supervisor(stuck(), observers=[ended]).stream(CREW):
            if isinstance(item, Admitted) and item.kind == "model_call":
                break

    asyncio.run(read())
    assert ended.wait().status == "stopped"


def test_a_loop_over_a_named_stream_ends_the_run_too() -> None:
    """The reader is gone, whether or not the stream is still held; `iter` is how to read it in two goes."""
    ending = Ending()
    stream = supervisor(stuck(), observers=[ending]).stream(CREW)
    for _ in stream:
        break
    assert ending.wait().status == "stopped"
    assert list(stream) == []

    two = supervisor().stream(CREW)
    items = iter(two)
    assert isinstance(next(items), RunStarted)
    assert isinstance(list(items)[-1], RunEnded)


def test_what_the_reader_raises_ends_the_run() -> None:
    """Its exception comes out as it is."""
    ending = Ending()
    with pytest.raises(ZeroDivisionError):
        for _ in supervisor(stuck(), observers=[ending]).stream(CREW):
            raise ZeroDivisionError
    assert ending.wait().status == "stopped"


def test_a_stream_that_nobody_holds_ends_its_run() -> None:
    """Never read, or in a cycle that only the garbage collector finds."""
    ending = Ending()
    supervisor(stuck(), observers=[ending]).stream(CREW)
    assert ending.wait().status == "stopped"

    ended = Ending()
    knot: list[Any] = [supervisor(stuck(), observers=[ended]).stream(CREW)]
    knot.append(knot)
    assert not ended.seen.is_set()
    del knot
    gc.collect()
    assert ended.wait().status == "stopped"


def test_with_ends_the_run_and_waits_for_its_record() -> None:
    """After the block the result is there, and the journal is whole; the same for `async with`."""
    store = MemoryStore()
    with supervisor(stuck(), store=store).stream(CREW) as stream:
        next(iter(stream))
    assert stream.result.status == "stopped"
    assert isinstance(list(store.read(stream.run_id))[-1], RunEnded)

    async def read() -> Any:
        async with supervisor(stuck()).stream(CREW) as stream:
            async for _ in stream:
                break
        return stream

    late = asyncio.run(read())
    late.close()
    with supervisor().stream(CREW) as whole:
        assert text(list(whole)) == ANSWER
    assert whole.result.done


def test_ctrl_c_ends_the_run_and_is_raised() -> None:
    """While the reader waits: the run ends, its record is whole, and KeyboardInterrupt comes out."""
    store, waiting = MemoryStore(), threading.Event()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    async def interrupt() -> None:
        await asyncio.to_thread(waiting.wait)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        await never()

    stream = supervisor(Talker([Reply("x", wait=interrupt)]), store=store).stream(CREW)
    try:
        with pytest.raises(KeyboardInterrupt):
            for item in stream:
                if isinstance(item, Admitted) and item.kind == "model_call":
                    waiting.set()
    finally:
        signal.signal(signal.SIGINT, before)
    last = list(store.read(stream.run_id))[-1]
    assert isinstance(last, RunEnded)
    assert last.status == "stopped"


def test_the_result_of_a_run_under_way_is_refused() -> None:
    """It says to read on; once the run is over it is there, whether or not all was read."""
    ending = Ending()
    with supervisor(stuck()).stream(CREW) as stream, pytest.raises(CrewGuardError, match="read to its end"):
        _ = stream.result
    stream = supervisor(observers=[ending]).stream(CREW)
    items = iter(stream)
    while not isinstance(next(items), RunEnded):
        pass
    assert stream.result.done


def test_a_run_that_cannot_begin_raises_in_its_loop() -> None:
    """A run's id that is taken: the error comes out of the iteration, and is the result's, too."""
    store = MemoryStore()
    first = supervisor(store=store).run(CREW, run_id="one")
    assert first.done
    stream = supervisor(store=store).stream(CREW, run_id="one")
    with pytest.raises(JournalConflictError):
        list(stream)
    with pytest.raises(JournalConflictError):
        _ = stream.result


def test_a_stream_read_on_the_supervisors_own_loop_is_refused() -> None:
    """A plain loop in an async tool would wait for itself; `async for` works there."""
    inner = supervisor(Talker(["inner"]))
    said: list[Any] = []

    @tool
    async def nested(how: str) -> str:
        """Run another crew."""
        stream = inner.stream(CREW)
        if how == "plain":
            with pytest.raises(CrewGuardError, match="async for"):
                list(stream)
            return "refused"
        said.extend([item async for item in stream])
        return stream.result.output

    crew = Crew([Agent(Role(name="boss", goal="know"), (nested,))], [Task("go")])
    calls = [Reply(tools=(("nested", f'{{"how": "{how}"}}'),)) for how in ("plain", "async")]
    inner.models = {}
    result = supervisor(Talker([*calls, "done"])).run(crew)
    assert result.done, result
    assert text(said) == "inner"


def test_a_deadline_ends_a_stream_though_the_loop_is_blocked() -> None:
    """An async tool that blocks its loop: the reader takes the end, and the result, from its own thread."""
    release = threading.Event()

    @tool
    async def hog() -> str:
        """Block the loop."""
        release.wait(20)
        return "done"

    crew = Crew([Agent(Role(name="hog", goal="hog"), (hog,))], [Task("go")])
    policy = Policy.model_validate({"limits": {"max_seconds": 0.2}})
    try:
        stream = supervisor(Talker([Reply(tools=(("hog", "{}"),)), "x"]), policy=policy).stream(crew)
        items = list(stream)
    finally:
        release.set()
    assert isinstance(items[-1], RunEnded)
    assert stream.result.stopped
    assert stream.result.stopped.limit == "max_seconds"


def test_a_reader_that_stops_waiting_may_ask_again() -> None:
    """A cancelled wait for the next item loses nothing."""
    go = threading.Event()

    async def wait() -> None:
        await asyncio.to_thread(go.wait)

    async def read() -> list[StreamItem]:
        stream = supervisor(Talker([Reply(ANSWER, wait=wait)])).stream(CREW)
        items, found = aiter(stream), []
        while True:
            asking = asyncio.ensure_future(anext(items))
            found.append(await asking)
            if isinstance(found[-1], Admitted) and found[-1].kind == "model_call":
                break
        waiting = asyncio.ensure_future(anext(items))
        await asyncio.sleep(0)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        go.set()
        return [*found, *[item async for item in items]]

    assert text(asyncio.run(read())) == ANSWER


def test_a_task_that_is_cancelled_while_it_reads_ends_its_run() -> None:
    """At once, though the task and its traceback are still held."""
    ending = Ending()

    async def read(started: asyncio.Event) -> None:
        async for item in supervisor(stuck(), observers=[ending]).stream(CREW):
            if isinstance(item, Admitted) and item.kind == "model_call":
                started.set()

    async def main() -> None:
        started = asyncio.Event()
        task = asyncio.create_task(read(started))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(ending.wait)
        assert task.cancelled()

    asyncio.run(main())
    assert ending.wait().status == "stopped"


def test_two_runs_are_read_side_by_side() -> None:
    """Of one supervisor, in one task each and in one thread each."""

    def crew(name: str) -> Crew:
        return Crew([Agent(Role(name=name, goal="know"))], [Task(name)])

    def said(request: ModelRequest) -> str:
        return f"{request.messages[-1].text} answers at some length"

    shared = supervisor(Talker(said))

    async def one(name: str) -> list[StreamItem]:
        return [item async for item in shared.stream(crew(name))]

    async def both() -> list[list[StreamItem]]:
        return await asyncio.gather(one("ann"), one("bob"))

    found = asyncio.run(both())
    threads = [threading.Thread(target=lambda n=name: found.append(list(shared.stream(crew(n))))) for name in "xy"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(text(items) for items in found) == [
        f"{name} answers at some length" for name in ("ann", "bob", "x", "y")
    ]
    assert all(
        {item.agent for item in items if isinstance(item, TextDelta)} == {text(items).split()[0]} for items in found
    )


# Readers that are slow


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[Buffer]:
    """Streams whose buffers hold 40 items."""
    made: list[Buffer] = []

    def make() -> Buffer:
        made.append(Buffer(40, 10_000))
        return made[-1]

    monkeypatch.setattr(streaming, "Buffer", make)
    return made


def stores(folder: Path) -> Iterator[Any]:
    yield MemoryStore()
    yield SqliteStore(folder / "runs.db")


@pytest.mark.parametrize("durability", ["write_ahead", "relaxed"])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_reader_who_comes_late_gets_every_event_and_is_told_what_is_missing(
    small: list[Buffer], tmp_path: Path, mode: str, durability: str
) -> None:
    """A run of 100 turns is over before the first item is read: little is held, and no event is lost."""
    for store in stores(tmp_path):
        ending = Ending()
        policy = Policy.model_validate({"durability": durability})
        model = Talker([*looks(100), ANSWER])
        stream = supervisor(model, store=store, policy=policy, observers=[ending]).stream(CREW)
        ending.wait()
        assert len(small[-1]._items) <= 41

        async def read(stream: Any = stream) -> list[StreamItem]:
            return [item async for item in stream]

        items = list(stream) if mode == "sync" else asyncio.run(read())
        assert [event.seq for event in events(items)] == list(range(1, ending.wait().seq + 1))
        assert events(items) == list(store.read(stream.run_id))
        missed = sum(item.count for item in items if isinstance(item, Missed))
        deltas = sum(isinstance(item, TextDelta | Budget) for item in items)
        ends = sum(isinstance(item, Settled) for item in items)
        assert missed > 100
        assert ends < missed + deltas <= ends + len(ANSWER.split())  # words that were joined count once
        assert stream.result.done
        store.close()


class Turns:
    """An observer that counts tool calls which ended, and can be waited for."""

    def __init__(self) -> None:
        self.count, self.news = 0, threading.Condition()

    def __call__(self, run_id: str, event: Event) -> None:
        if isinstance(event, Settled) and event.text.startswith("about gzip"):
            with self.news:
                self.count += 1
                self.news.notify()

    def wait(self, count: int) -> None:
        with self.news:
            assert self.news.wait_for(lambda: self.count >= count, 20)


def test_a_reader_who_is_slower_than_the_run_misses_no_event(small: list[Buffer], tmp_path: Path) -> None:
    """The run goes on 30 turns for each item read: gaps open again and again, and the order holds."""
    for store in stores(tmp_path):
        turns, go = Turns(), threading.Semaphore(0)

        async def turn(go: threading.Semaphore = go) -> None:
            await asyncio.to_thread(go.acquire)

        policy, model = Policy.model_validate({}), Talker([*looks(300), ANSWER], wait=turn)
        stream = supervisor(model, store=store, policy=policy, observers=[turns]).stream(CREW)
        items: list[StreamItem] = []
        for item in stream:
            items.append(item)
            if len(items) <= 10:
                go.release(30)
                turns.wait(30 * len(items))
                assert len(small[-1]._items) <= 41
            else:
                go.release()
        assert events(items) == list(store.read(stream.run_id))
        assert any(isinstance(item, Missed) for item in items)
        assert text(items).endswith(ANSWER)
        store.close()


def test_events_that_the_journal_does_not_give_back_are_counted(small: list[Buffer]) -> None:
    """A store that can't be read: the rest comes, and Missed says how much did not."""

    class Forgetful(MemoryStore):
        def read(self, run_id: str) -> Any:
            return iter(list(super().read(run_id))[:3])

    ending = Ending()
    store = Forgetful()
    policy = Policy.model_validate({})
    stream = supervisor(Talker([*looks(60), ANSWER]), store=store, policy=policy, observers=[ending]).stream(CREW)
    last = ending.wait().seq
    items = list(stream)
    missed = [item.count for item in items if isinstance(item, Missed)]
    ends = 1 + 60 + 60 + 1  # the spawn, the calls
    deltas = sum(isinstance(item, TextDelta | Budget) for item in items)
    assert last + ends < len(events(items)) + sum(missed) + deltas <= last + ends + len(ANSWER.split())
    assert isinstance(items[-1], RunEnded)


def test_a_reader_who_left_holds_no_memory(small: list[Buffer]) -> None:
    """What comes after is not kept."""
    ending = Ending()
    gone = threading.Event()

    async def wait() -> None:
        await asyncio.to_thread(gone.wait)

    stream = supervisor(Talker([Reply(ANSWER, wait=wait)]), observers=[ending]).stream(CREW)
    for _ in stream:
        break
    gone.set()
    ending.wait()
    assert len(small[-1]._items) == 0


def test_a_run_that_nobody_streams_has_no_buffer() -> None:
    """run() makes nothing of it: a model's text goes no further than the idle clock."""
    seen: list[Any] = []

    class Looking(Talker):
        async def complete(self, request: Any, max_tokens: int, on_text: Any) -> Any:
            seen.append(on_text)
            return await super().complete(request, max_tokens, on_text)

    assert supervisor(Looking([ANSWER])).run(CREW).done
    assert not isinstance(seen[0], partial)
    list(supervisor(Looking([ANSWER])).stream(CREW))
    assert isinstance(seen[1], partial)
