"""A gate that a workflow's steps receive as a resource, for SDKs that are called by hand.

Outside of a guarded run it lets everything through, so that the same workflow runs unguarded as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

from crew_guard.adapters.hosted import Attempt, json_of, reported
from crew_guard.adapters.llama_index.scope import HostRun, current
from crew_guard.adapters.llama_index.threads import named
from crew_guard.core.actions import Action, ModelCall, Outcome, ToolCall
from crew_guard.core.messages import Message
from crew_guard.errors import ConfigError


def step_gate() -> StepGate:
    """The factory for workflows' resources: `gate: Annotated[StepGate, Resource(step_gate)]`."""
    return StepGate()


class StepGate:
    """Bounds what a step does by hand. It has no state: it looks for the run in its context at each use."""

    @property
    def guarded(self) -> bool:
        """Whether the current code is part of a guarded run."""
        return current.get() is not None

    def model(
        self, name: str, prompt: str | Sequence[str], *, max_tokens: int | None = None, agent: str | None = None
    ) -> Use:
        """One request to a model, as a context manager, `with` or `async with`.

        Args:
            name: provider:name, as policies know it
            prompt: all texts that are sent
            max_tokens: the longest completion that is asked for
            agent: who asks; by default the step
        Raises:
            RefusedError: on entering, where the guard says no; nothing may be sent then
            ConfigError: on entering, where it was entered and not left
        """

        def action(run: HostRun) -> Action:
            known = run.known(name)
            texts = [prompt] if isinstance(prompt, str) else list(prompt)
            tokens = known.count.request((), None)
            tokens += sum(known.count.facts.bound(Message("user", text)) for text in texts)
            return ModelCall(agent or run.who(), name, tokens, max_tokens, rates=known.rates)

        return Use(action, max_tokens)

    def tool(self, name: str, arguments: Mapping[str, Any] | None = None, *, agent: str | None = None) -> Use:
        """One execution of a tool, in the same way."""

        def action(run: HostRun) -> Action:
            return ToolCall(agent or run.who(), name, json_of(dict(arguments or {})))

        return Use(action, None)


class Use:
    """One action by hand: between entering and leaving it is under way. Entered once more it is another action."""

    def __init__(self, action: Callable[[HostRun], Action], max_tokens: int | None) -> None:
        self._action = action
        self._wished = max_tokens
        self._under_way = False
        self._attempt: Attempt | None = None
        self._over: Callable[[], object] | None = None
        self._outcome = Outcome("ok")
        self.max_tokens = max_tokens
        """The longest completion that may be asked for: give it to the SDK, with its own retries off."""

    def used(self, input_tokens: int, output_tokens: int, *, cached_tokens: int = 0, text: str = "") -> None:
        """What the provider reported; without it all that was reserved is charged."""
        self._outcome = Outcome("ok", reported(input_tokens, output_tokens, cached_tokens), text=text)

    def __enter__(self) -> Self:
        with self._entering() as run:
            if run is not None:
                grant = run.gate.admit_blocking(self._action(run))
                self._began(Attempt(run.gate, grant))
                self._over = named(run.gate, grant)
        return self

    async def __aenter__(self) -> Self:
        with self._entering() as run:
            if run is not None:
                self._began(Attempt(run.gate, await run.gate.admit(self._action(run))))
        return self

    @contextmanager
    def _entering(self) -> Generator[HostRun | None]:
        """Nothing of an earlier time is left; gives the guarded run, where there is one.

        Raises:
            ConfigError: it is under way
        """
        if self._under_way:
            raise ConfigError("this use is under way: what is done at the same time needs one of its own")
        self._under_way = True
        self._attempt = self._over = None
        self._outcome, self.max_tokens = Outcome("ok"), self._wished
        try:
            yield current.get()
        except BaseException:
            self._under_way = False
            raise

    def _began(self, attempt: Attempt) -> None:
        self._attempt = attempt
        if isinstance(attempt.grant.action, ModelCall):
            self.max_tokens = attempt.grant.max_tokens

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._under_way = False
        if self._over is not None:
            self._over()
        if self._attempt is None:
            return
        if error is not None and self._outcome.usage is None:
            self._attempt.fail(error)
        else:
            self._attempt.settle(self._outcome)

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.__exit__(kind, error, trace)
        await asyncio.sleep(0)
