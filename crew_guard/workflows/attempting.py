"""One node at work: approval, attempts with pauses between, its timeout, its verdict.

A verifier's no is a failed attempt like any other; a refusal of the guard is never tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from crew_guard.core.decisions import Stop
from crew_guard.core.limits import NO_CAP, UNCAPPED
from crew_guard.core.plain import error_words, shown
from crew_guard.core.roles import Verdict
from crew_guard.core.tools import Tool, misfit
from crew_guard.core.verdicts import Judge, raised, verdict_of
from crew_guard.errors import ApprovalDeniedError, LimitExceededError, ModelError, RefusedError, StoreError
from crew_guard.loops import is_being_cancelled
from crew_guard.ports import Flow, Gate
from crew_guard.workflows.agents import Delegation, heard
from crew_guard.workflows.answering import Question, answered
from crew_guard.workflows.asking import Approval, copy_of, decision
from crew_guard.workflows.ballots import Ballot, tell
from crew_guard.workflows.calling import Begins, call, call_with, contained, named_while_on, settled, what_was_raised
from crew_guard.workflows.checkpoints import reads_back
from crew_guard.workflows.context import NodeContext, NodeFailedError
from crew_guard.workflows.doors import opened
from crew_guard.workflows.nodes import Node
from crew_guard.workflows.overdue import OverdueError, ended, release, until

T = TypeVar("T")


@dataclass(slots=True)
class Attempts:
    """Carries out the nodes of one run."""

    workflow: str
    flow: Flow
    parts: dict[str, list[Any]] = field(default_factory=dict[str, list[Any]])
    """What items, or copies, of nodes that are not done yet gave so far, by node: it stays where the node fails."""
    _capped: set[str] = field(default_factory=set[str])
    _busy: int = 0
    _asking: int = 0
    _still: bool = False

    async def carry_out(self, node: Node, value: Any, by_name: bool, context: NodeContext) -> Any:
        """The node's output.

        Args:
            node: what to run
            value: what it is given
            by_name: whether the value is a dict of its parameters
            context: of its first attempt
        """
        if node.caps != UNCAPPED and node.name not in self._capped:
            self._capped.add(node.name)
            self.flow.cap(node.name, node.caps)
        self.flow.began(node.name, round=context.round)
        self._count(busy=1)
        try:
            if node.irreversible:
                value = await self._approved(node, value, context)
                await self.flow.on_disk()  # whoever goes on after a crash has to know that it may have been done
            bound = replace(context, dollars=node.caps.nano_usd < NO_CAP)
            work = self._whole(node, value, by_name, bound)
            output = await (work if node.max_seconds is None else self._in_all(node, work, node.max_seconds))
        except Exception as error:
            stays = self.done_for_good(node)
            self.flow.failed(node.name, f"{error_words(error)}{stays and f'; {stays}'}", context.round)
            raise
        finally:
            self._count(busy=-1)
        self.parts.pop(node.name, None)
        self.flow.finished(node.name, output, context.round, exact=reads_back(node.returns, output))
        return output  # at once: a node that is done must not be cancelled any more

    def done_for_good(self, node: Node) -> str:
        """What a node that failed did of its items before, and can't be undone; mostly nothing."""
        done = self.parts.get(node.name) if node.irreversible and node.compensate is None else None
        return f"done for {len(done)} of its items: {', '.join(map(shown, done))}" if done else ""

    async def undo(self, node: Node, output: Any, context: NodeContext, *, partial: bool = False) -> tuple[str, bool]:
        """Undo a node, one over several items item by item, the latest first. That it begins is on disk before.

        Args:
            node: what is undone
            output: what it gave; where it had not finished, the list of what some of its items gave
            context: of its run
            partial: whether it had not finished
        Returns:
            what went wrong, or nothing; whether nobody knows what is left
        """
        assert node.compensate is not None  # noqa: S101  the caller looked
        # A name of its own: what it did used up the node's caps, perhaps.
        own = replace(context, node=f"{node.name}.undo")
        self._count(busy=1)
        try:
            self.flow.undoing(node.name, partial=partial)
            await self.flow.on_disk()
            if node.several and isinstance(output, list):
                stay = await self._undo_each(node, cast("list[Any]", output)[::-1], own)
                return stay, bool(stay)
            await self._undo_one(node, output, own)
        except Exception as error:  # noqa: BLE001  the others are undone all the same
            return error_words(error), isinstance(error, NodeFailedError) and error.cut
        finally:
            self._count(busy=-1)
        return "", False

    async def _undo_one(self, node: Node, output: Any, context: NodeContext) -> None:
        assert node.compensate is not None  # noqa: S101  see undo
        seconds, limit = (node.max_seconds, "max_seconds") if node.timeout is None else (node.timeout, "timeout")
        begins = partial(self.flow.in_thread, node.name)
        with opened(context) as own:
            await self._timed(node, call_with(node.compensate, output, own, begins), seconds, limit)

    async def _undo_each(self, node: Node, outputs: Sequence[Any], context: NodeContext) -> str:
        stay: list[str] = []
        for output in outputs:
            try:
                await self._undo_one(node, output, context)
            except Exception as error:  # noqa: BLE001  see undo
                stay.append(f"{shown(output)}: {error_words(error)}")
        return f"{len(stay)} of {len(outputs)}: {'; '.join(stay)}" if stay else ""

    # Approval

    async def _approved(self, node: Node, value: Any, context: NodeContext) -> Any:
        """What may be acted on: what was asked about, as its approver left it; nobody else can change it meanwhile.

        All parts are asked about before the first is acted on: a no is the whole node's.
        """
        parts = [copy_of(each) for each in (_items(node, value) if node.each else [value])]
        held = [Approval(self.workflow, node.name, copy_of(each), context.inputs) for each in parts]
        asked = [each.whole for each in held]
        for each, words in zip(parts, asked, strict=True):
            await self._asked(node, Approval(self.workflow, node.name, each, context.inputs), words)
        if [each.whole for each in held] != asked:
            raise _denied(node, f"{node.name}: what it is about to act on has changed since it was asked about")
        return parts if node.each else parts[0]

    async def _asked(self, node: Node, approval: Approval, words: str) -> None:
        """Ask about one value, in these words.

        Raises:
            ApprovalDeniedError: the answer is no
        """
        self.flow.asked(node.name, words)
        self._count(busy=-1, asking=1)
        try:
            verdict, by = await self._timed(
                node, decision(node.approve, approval, partial(self.flow.in_thread, node.name))
            )
        finally:
            self._count(busy=1, asking=-1)
        if is_being_cancelled():
            raise asyncio.CancelledError  # an answer that is given all the same comes too late
        left = approval.whole
        if left != words:
            told = f"as corrected by {by}: {left}"
            verdict = replace(verdict, reason=f"{verdict.reason}; {told}" if verdict.reason else told)
        self.flow.answered(node.name, verdict, by)
        if not verdict.passed:
            reason = f": {verdict.reason}" if verdict.reason else ""
            raise _denied(node, f"{node.name} was not approved{f' by {by}' if by else ''}{reason}")

    def _count(self, busy: int = 0, asking: int = 0) -> None:
        """Time stands still while there is nothing to wait for but a person."""
        self._busy += busy
        self._asking += asking
        still = self._asking > 0 and self._busy == 0
        if still != self._still:
            self._still = still
            self.flow.stand_still(still=still)

    # Attempts

    async def _whole(self, node: Node, value: Any, by_name: bool, context: NodeContext) -> Any:
        if node.each:
            return await self._several(node, _items(node, value), context)
        if node.copies > 1:
            return await self._several(node, [value] * node.copies, context)
        return await self._one(node, value, context, by_name=by_name)

    async def _several(self, node: Node, values: Sequence[Any], context: NodeContext) -> list[Any]:
        ballots = [Ballot(context.gate) for _ in values]
        own = [replace(context, gate=cast("Gate", ballot)) for ballot in ballots]
        done = self.parts[node.name] = []
        tasks = [asyncio.ensure_future(self._part(node, *each, done)) for each in zip(values, own, strict=True)]
        try:
            if node.copies > 1:
                # A copy that fails has no vote; a refusal ends all.
                gave = await asyncio.gather(*tasks, return_exceptions=True)
                for ballot, each in zip(ballots, gave, strict=True):
                    if isinstance(each, Exception) and not isinstance(each, ModelError):
                        ballot.failed(node.name, str(each))
                return _votes(node, gave)
            return list(await asyncio.gather(*tasks))
        finally:
            await ended(tasks)
            tell(context.gate, ballots, voted=node.copies > 1)

    async def _part(self, node: Node, value: Any, context: NodeContext, done: list[Any]) -> Any:
        output = await self._one(node, value, context)
        done.append(output)
        return output

    async def _one(self, node: Node, value: Any, context: NodeContext, *, by_name: bool = False) -> Any:
        attempt, problem = 1, ""
        while True:
            try:
                with opened(context, attempt, problem) as now:
                    work = contained(_work, self.flow, node, value, by_name, now)
                    output = await self._timed(node, work, node.timeout, "timeout")
                    return await self._verified(node, output, now)
            except RefusedError:
                raise
            except Exception as error:
                retry = node.retry
                if retry is None or attempt > retry.times or not _worth_it(error) or is_being_cancelled():
                    raise
                problem = str(error) if isinstance(error, NodeFailedError) else error_words(error)
                await self.flow.pause(retry.pause(attempt))
            attempt += 1
            self.flow.began(node.name, attempt, context.round, problem)

    async def _timed(
        self, node: Node, work: Coroutine[Any, Any, T], seconds: float | None = None, limit: str = ""
    ) -> T:
        """What code of a user's gives. It is left behind, and named, where it doesn't end when it is cancelled."""
        try:
            return await self._before(work, seconds, partial(self.flow.in_thread, node.name))
        except OverdueError:
            overdue = NodeFailedError(f"{node.name} was ended after {seconds:g} s, its {limit}")
            overdue.cut = True
            raise overdue from None

    async def _in_all(self, node: Node, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """What all attempts together give.

        Raises:
            LimitExceededError: they took longer
        """
        try:
            return await self._before(work, seconds, None)
        except OverdueError:
            stop = Stop("deadline", f"node:{node.name}", "max_seconds", seconds, seconds)
            raise LimitExceededError(stop) from None

    async def _before(
        self,
        work: Coroutine[Any, Any, T],
        seconds: float | None,
        name_left: Begins | None,
    ) -> T:
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            loop.call_soon_threadsafe(release, over)

        timer = None if seconds is None else self.flow.call_later(seconds, wake)
        try:
            return await until(over, work, name_left)
        finally:
            if timer is not None:
                timer.cancel()

    async def _verified(self, node: Node, output: Any, context: NodeContext) -> Any:
        """The output, if it passes.

        Raises:
            NodeFailedError: it doesn't
        """
        if node.verify is None:
            if node.output is not None and node.model is not None:
                self._judged(node, Verdict(passed=True, reason=f"it follows {node.output.__name__}"), context)
            return output
        begins = partial(self.flow.in_thread, f"{node.name}/verify")
        verdict = await self._before(_said(node, node.verify, output, context, begins), None, begins)
        self._judged(node, verdict, context)
        if not verdict.passed:
            raise NodeFailedError(f"the verifier of {node.name} said no: {verdict.reason or 'no reason given'}")
        return output

    @staticmethod
    def _judged(node: Node, verdict: Verdict, context: NodeContext) -> None:
        context.gate.judged(node.name, node.name, verdict)


async def _said(
    node: Node, verify: Callable[..., Any] | Judge, output: Any, context: NodeContext, begins: Begins
) -> Verdict:
    if isinstance(verify, Judge):
        return await heard(verify, output, context, whose=node.name)
    try:
        return verdict_of(await call_with(verify, output, context, begins), node.pass_mark)
    except (RefusedError, StoreError):
        raise
    except Exception as error:  # noqa: BLE001  a verifier that raises has not said yes
        return raised(what_was_raised(error))


def _denied(node: Node, detail: str) -> ApprovalDeniedError:
    return ApprovalDeniedError(Stop("denied", f"node:{node.name}", "approval", detail=detail))


def _worth_it(error: Exception) -> bool:
    """Whether another attempt may do better."""
    return error.retryable if isinstance(error, ModelError) else not isinstance(error, StoreError)


def _items(node: Node, value: Any) -> list[Any]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        kind = type(cast("object", value)).__name__
        raise NodeFailedError(f"{node.name} works on each item of a list; it was given a {kind}")
    items = list(cast("Iterable[Any]", value))
    if len(items) > node.each:
        raise NodeFailedError(f"{node.name} may work on {node.each} items at the most; it was given {len(items)}")
    return items


def _votes(node: Node, ended: Sequence[Any]) -> list[Any]:
    failed = [each for each in ended if isinstance(each, BaseException)]
    for error in failed:
        if not isinstance(error, Exception) or isinstance(error, RefusedError | StoreError):
            raise error
    votes = [each for each in ended if not isinstance(each, BaseException)]
    if not votes:
        raise NodeFailedError(f"none of the {node.copies} of {node.name} gave anything: {failed[0]}")
    return votes


async def _work(flow: Flow, node: Node, value: Any, by_name: bool, context: NodeContext) -> Any:
    function = node.function
    if isinstance(function, Delegation):
        made = await function(value, context)
    elif isinstance(function, Tool):
        made = (await context.call_tool(function, value)).value
    else:
        made = await _called(flow, node, value, by_name, context)
        if node.model is not None:
            question = Question(context.model_named(node.model), made, node.output, node.max_tokens, node.system)
            try:
                return await answered(question, context)
            except NodeFailedError as error:
                if node.output is not None:
                    context.gate.judged(node.name, node.name, Verdict(passed=False, reason=str(error)))
                raise
    return made if node.output is None else _as_output(node.output, made)


async def _called(flow: Flow, node: Node, value: Any, by_name: bool, context: NodeContext) -> Any:
    function = named_while_on(node.function, partial(flow.in_thread, node.name))
    signature = node.signature
    given: dict[str, Any] = dict(value) if by_name else {next(iter(signature.parameters)): value}
    args: list[Any] = []
    named: dict[str, Any] = {}
    for place, name in enumerate(signature.order):
        if name not in given and name in signature.optional:
            continue
        taken = given.get(name, context)
        if place == len(args):
            args.append(taken)
        else:
            named[name] = taken  # behind one that keeps its default
    return await settled(await call(function, *args, **named))


def _as_output(output: type[BaseModel], made: Any) -> BaseModel:
    try:
        return output.model_validate(made)
    except Exception as error:  # noqa: BLE001  a validator of a user's may raise what it likes
        raise NodeFailedError(misfit(error, "what it gave")) from None
