"""Between two attempts at a provider: how long, and what it costs."""

import asyncio
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any

import pytest

from crew_guard import Supervisor
from crew_guard.core.messages import Message, ModelRequest
from crew_guard.errors import ModelError
from crew_guard.models.failures import status_failure
from crew_guard.models.scripted import Reply, ScriptedModel
from crew_guard.ports import CallTerms, Gate, RuntimeResult
from crew_guard.store.memory import MemoryStore
from tests.supervisor.gates import gate_for

REQUEST = ModelRequest((Message("user", "Hello"),), prompt_tokens=20)


def pauses(*errors: ModelError) -> tuple[list[float], int]:
    """(the seconds waited before each further attempt, the steps charged) of a call that fails so often."""

    async def main() -> tuple[list[float], int]:
        gate = gate_for(attempts=len(errors) + 1)
        model = ScriptedModel([*(Reply(error=error) for error in errors), "done"])
        waited: list[float] = []
        clock = gate.keeper.clock
        call_later = clock.call_later

        def seen(seconds, callback):
            waited.append(seconds)
            timer = call_later(seconds, callback)
            asyncio.get_running_loop().call_soon(clock.advance, seconds)  # type: ignore[attr-defined]
            return timer

        clock.call_later = seen  # type: ignore[method-assign]
        reply = await gate.call_model("writer", model, REQUEST, CallTerms(max_tokens=10))
        assert reply.text == "done"
        assert [call.max_tokens for call in model.calls] == [10] * (len(errors) + 1)
        return waited, gate.keeper.state.used().steps

    return asyncio.run(main())


def failure(status: int, **headers: str) -> ModelError:
    return status_failure(status, {name.replace("_", "-"): value for name, value in headers.items()}, b"{}", "")


def test_without_a_wish_each_pause_is_twice_the_last() -> None:
    """Half a second, one, two; and each attempt is a step."""
    assert pauses(failure(500), failure(503), failure(429)) == ([0.5, 1.0, 2.0], 4)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after_ms": "1500"}, 1.5),
        ({"retry_after": "0"}, 0.0),
        ({"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry_after": "86400"}, 120.0),
        ({"retry_after": "whenever"}, 0.5),
    ],
)
def test_a_providers_wish_is_heeded(headers: dict[str, str], seconds: float) -> None:
    """In seconds, milliseconds or as a date, for at most two minutes; nonsense is no wish."""
    assert pauses(failure(429, **headers)) == ([seconds], 2)


def test_a_wish_as_a_date_is_counted_from_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty seconds from now are forty seconds."""
    now = 1_700_000_000.0
    monkeypatch.setattr("crew_guard.models.failures.time.time", lambda: now)
    assert pauses(failure(503, retry_after=formatdate(now + 40, usegmt=True))) == ([40.0], 2)


class Elsewhere:
    """A runtime that turns a loop of its own, on a thread of its own."""

    name = "elsewhere"

    def __init__(self, model: ScriptedModel) -> None:
        self._model = model

    def members(self) -> list[str]:
        return ["writer"]

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        async def there() -> str:
            return (await gate.call_model("writer", self._model, REQUEST, CallTerms())).text

        return RuntimeResult(await asyncio.to_thread(asyncio.run, there()))


def test_a_pause_on_a_loop_of_the_hosts_own_ends() -> None:
    """The timer runs on the supervisor's loop, who waits is woken on the other."""
    model = ScriptedModel([ModelError("busy", kind="throttled", retry_after=0.01), "answer"])
    running = Supervisor(store=MemoryStore()).run_runtime(Elsewhere(model), {}, name="elsewhere")
    result = running.future.result(20)
    assert (result.output, result.usage.steps) == ("answer", 2)
