"""Guardrails at work in one run: in order, each on what the one before made of the content.

Whatever goes wrong with a guardrail rejects the content. Only what was fixed or rejected is
recorded, and never the content itself.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from crew_guard.core.content import PASSED, Check, Place, fixed, rejected, withheld
from crew_guard.core.decisions import Stop
from crew_guard.core.events import Guarded
from crew_guard.core.plain import error_text, plain
from crew_guard.core.roles import Verdict
from crew_guard.core.tools import Tool, result_text
from crew_guard.errors import ModelError, RefusedError
from crew_guard.loops import is_being_cancelled
from crew_guard.ports import Content, Gate, Guardrail, Guards, Runtime, RuntimeResult, ToolResult, Workflow
from crew_guard.supervisor.recording import Recorder
from crew_guard.supervisor.shapes import leaves, put_back, readable_of, text_of
from crew_guard.threads import in_thread

MOST_READ = 4_000_000
"""Characters of what the run has read that are kept for guardrails that look at sources; the oldest go first."""
_LONGEST_REASON = 2_000
_SLICE = 0.5
"""Seconds that a thread waits for a guardrail at a time."""
UNCHECKED = "[not checked yet]"


class _At(NamedTuple):
    place: Place
    agent: str
    target: str


@dataclass(slots=True)
class Guarding:
    """The guardrails of one run, and what they have seen."""

    guards: Guards
    recorder: Recorder
    inputs: Mapping[str, Any]
    """As they were checked so far."""
    halt: Callable[[str, Stop], None]
    """Latches a scope."""
    loop: asyncio.AbstractEventLoop | None = None
    """The run's: where guardrails run, whoever asks; those of inputs run before it begins, on the supervisor's."""
    engine: asyncio.AbstractEventLoop | None = None
    """The supervisor's."""
    passed: list[Any] = field(default_factory=list[Any])
    """Answers that passed, as the very objects."""
    _early: list[tuple[Any, ...]] = field(default_factory=list[Any])
    """What was found before the run's record began."""
    _looked: bool = False
    _asked_models: bool = False
    """Whether those that ask a model have seen the inputs, too."""
    _read: deque[str] = field(default_factory=deque[str])
    _kept: int = 0

    async def check(self, gate: Gate, place: Place, agent: str, target: str, value: Any) -> Check:
        """See Gate.check."""
        work = self._all(self.guards.of(place, target), gate, _At(place, agent, target), value)
        if self.loop is None or asyncio.get_running_loop() is self.loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def check_blocking(self, gate: Gate, place: Place, agent: str, target: str, value: Any) -> Check:
        """See Gate.check_blocking."""
        loop = self._that_turns()
        work = self._all(self.guards.of(place, target), gate, _At(place, agent, target), value)
        future = asyncio.run_coroutine_threadsafe(work, loop)
        while True:
            with suppress(TimeoutError):
                return future.result(_SLICE)
            if future.done():
                return future.result()
            if loop.is_closed():
                raise RuntimeError("the event loop that guardrails run on was closed")

    def _that_turns(self) -> asyncio.AbstractEventLoop:
        """A loop that turns while this thread waits."""
        assert self.loop is not None  # noqa: S101  a run that is under way has one
        assert self.engine is not None  # noqa: S101  the same
        try:
            return self.engine if asyncio.get_running_loop() is self.loop else self.loop
        except RuntimeError:
            return self.loop

    async def tool_result(self, gate: Gate, agent: str, tool: Tool, result: ToolResult) -> ToolResult:
        """What an agent, or a workflow's node, may read of a tool's result."""
        whole = result.text if result.value is None else result.value
        check = await self.check(gate, "tool_results", agent, tool.name, whole)
        if check.outcome == "pass":
            return result
        if check.outcome == "reject":
            return ToolResult(withheld(tool.name, check), failed=True)
        value = None if result.value is None else check.value
        return ToolResult(result_text(check.value, tool.max_result_chars), value, result.failed)

    async def look_at_inputs(self, gate: Gate) -> Stop | None:
        """Check the inputs by what needs no model, before the run's record begins and would hold them.

        Returns:
            what ends the run, where nobody may work on these
        """
        return await self._screen(gate, models=False)

    @property
    def shown(self) -> Mapping[str, Any]:
        """The inputs for the run's record."""
        return self.inputs if self._looked or not self.guards.inputs else dict.fromkeys(self.inputs, UNCHECKED)

    async def run(self, worker: Runtime | Workflow, gate: Gate, agent: str) -> RuntimeResult:
        """Have the work done on checked inputs, and check what comes out of it: `agent` has made that."""
        if not self._asked_models and (stop := await self._screen(gate, models=True)):
            self.halt("run", stop)
            return RuntimeResult(None, partial=True, reason=str(stop), stop=stop)
        result = await worker.run(self.inputs, gate)
        if result.partial or not self.guards.outputs or self.has_passed(result.output):
            return result
        check = await self.check(gate, "outputs", agent, "output", result.output)
        if check.outcome == "reject":
            gate.judged(agent, "output", Verdict(passed=False, reason=check.reason))
            return RuntimeResult(None, partial=True, reason=f"the output was turned down by {check.reason}")
        return RuntimeResult(check.value, result.outputs) if check.outcome == "fix" else result

    def without_unchecked(self, result: RuntimeResult) -> RuntimeResult:
        """A result without what was never let through, where answers are checked."""
        if not self.guards.check_outputs:
            return result
        outputs = {name: value for name, value in result.outputs.items() if self.has_passed(value)}
        return replace(result, output=result.output if self.has_passed(result.output) else None, outputs=outputs)

    def has_passed(self, value: Any) -> bool:
        """Whether this very answer was checked and let through."""
        return any(one is value for one in self.passed)

    def tell(self) -> None:
        """Record what was found before the run's record began."""
        early, self._early = self._early, []
        for values in early:
            self.recorder.record(Guarded, *values)

    async def _screen(self, gate: Gate, *, models: bool) -> Stop | None:
        every = tuple(one for one in self.guards.inputs if (one.runs == "gate") is models)
        made = dict(self.inputs)
        for name, value in self.inputs.items() if every else ():
            check = await self._all(every, gate, _At("inputs", "", name), value)
            if check.outcome == "reject":
                return Stop(
                    "denied", "run", "content.inputs", detail=f"the input {name} was turned down by {check.reason}"
                )
            if check.outcome == "fix":
                made[name] = check.value
        self.inputs, self._looked = made, True
        self._asked_models |= models
        return None

    # One after the other

    async def _all(self, every: tuple[Guardrail, ...], gate: Gate, at: _At, value: Any) -> Check:
        reasons: list[str] = []
        for guardrail in every:
            check, value = await self._one(guardrail, self._content(gate, at, value))
            if check.outcome == "pass":
                continue
            self._note(at, guardrail.name, check)
            if check.outcome == "reject":
                return rejected(f"{guardrail.name}: {check.reason}", mendable=check.mendable)
            reasons.append(f"{guardrail.name}: {check.reason}")
        if at.place == "outputs":
            self.passed.append(value)
        if at.place != "inputs" and self.guards.read_sources:
            self._keep(value)
        return fixed(value, "; ".join(reasons)) if reasons else PASSED

    def _content(self, gate: Gate, at: _At, value: Any) -> Content:
        text, readable = text_of(value), readable_of(value)
        return Content(*at, text, value, readable, self.inputs, gate, self._sources)

    async def _one(self, guardrail: Guardrail, content: Content) -> tuple[Check, Any]:
        check = await self._answer(guardrail, content)
        if check.outcome != "fix":
            return check, content.value
        try:
            made = put_back(content.value, check)
        except Exception as error:  # noqa: BLE001  a user's value may raise whatever it likes
            return rejected(f"{check.reason}; {error_text(error)}"), content.value
        if check.mend is not None and not isinstance(content.value, str):
            # What a text's fix does to its parts need not be what it does to the whole.
            at = _At(content.place, content.agent, content.target)
            again = await self._answer(guardrail, self._content(content.gate, at, made))
            if again.outcome != "pass":
                return rejected(check.reason, mendable=check.mendable), content.value
        return check, made

    async def _answer(self, guardrail: Guardrail, content: Content) -> Check:
        try:
            if guardrail.runs == "gate":
                check = await self._asked(guardrail, content)
            else:
                async with asyncio.timeout(self.guards.max_seconds):
                    check = await self._asked(guardrail, content)
        except asyncio.CancelledError:
            if is_being_cancelled():
                raise
            check = rejected("the guardrail gave up", mendable=False)
        except TimeoutError:
            check = rejected(f"the guardrail gave no answer within {self.guards.max_seconds:g} s", mendable=False)
        except (RefusedError, ModelError) as error:
            check = rejected(f"the guardrail could not ask its model: {error_text(error)}", mendable=False)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001  a guardrail that raises has not let it pass
            # Only the kind: the message may quote what was looked at.
            check = rejected(f"the guardrail raised {type(error).__name__}", mendable=False)
        if not isinstance(check, Check):  # pyright: ignore[reportUnnecessaryIsInstance]  users don't all run pyright
            return rejected(f"the guardrail gave a {type(check).__name__}, no Check", mendable=False)
        return check

    @staticmethod
    async def _asked(guardrail: Guardrail, content: Content) -> Check:
        if guardrail.runs == "thread":
            answer = await in_thread(guardrail.check, content=content)
        else:
            answer = guardrail.check(content)
        return await answer if inspect.isawaitable(answer) else answer

    def _note(self, at: _At, name: str, check: Check) -> None:
        reason = self.recorder.redact(check.reason)[:_LONGEST_REASON]  # cut first, half of a secret would be left
        self._early.append((at.place, name, check.outcome, at.agent, at.target, reason))
        if self.recorder.state.started is not None:
            self.tell()

    def _sources(self) -> tuple[str, ...]:
        return (*(leaf for _, leaf in leaves(plain(dict(self.inputs)))), *self._read)

    def _keep(self, value: Any) -> None:
        for _, leaf in leaves(plain(value)):
            self._read.append(leaf)
            self._kept += len(leaf)
        while self._kept > MOST_READ and self._read:
            self._kept -= len(self._read.popleft())
