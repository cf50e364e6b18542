"""One run of a graph: which node is next, what it is given, and what becomes of the others when one fails.

Nodes run as soon as what leads to them is decided, side by side where nothing orders them. What a single node does is
in attempting.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from crew_guard.core.decisions import Stop
from crew_guard.core.plain import error_words, listed, shown
from crew_guard.errors import ApprovalDeniedError, RefusedError
from crew_guard.ports import Flow, Gate, Means, RuntimeResult, Taken, TasksDone
from crew_guard.workflows.asking import at_terminal, copy_of
from crew_guard.workflows.attempting import Attempts
from crew_guard.workflows.calling import call_with, settled
from crew_guard.workflows.checking import model_of
from crew_guard.workflows.checkpoints import Done, read_as, reads_back
from crew_guard.workflows.context import NodeContext, NodeFailedError, left, node_of, noted
from crew_guard.workflows.nodes import Node
from crew_guard.workflows.overdue import ended
from crew_guard.workflows.shape import Shape


@dataclass(frozen=True, slots=True)
class Going:
    """What one run of a workflow is given."""

    name: str
    inputs: Mapping[str, Any]
    gate: Gate
    before: Mapping[str, Any]
    """What is done already, of the run that it goes on from."""
    done: Mapping[str, Any]
    """The same, of whoever hands it on."""
    means: Means | None


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """A finished node, for whoever has to undo it."""

    node: Node
    output: Any
    context: NodeContext
    partial: bool = False
    """Whether it had not finished: the output is the list of what some of its items gave."""


async def run_graph(shape: Shape, going: Going) -> RuntimeResult:
    """Run a graph. See Workflow.run."""
    run = _Run(shape, going, going.gate.flow(going.name))
    await run.take_over()
    run.refuse_unapproved()
    try:
        await run.until_over()
    except asyncio.CancelledError:
        run.leave_undone()  # first of all: whoever ends the run doesn't wait for long
        try:
            await run.let_go()
        finally:
            run.leave_undone()
        raise
    except Exception as error:
        lost: list[str] = []
        try:
            await run.let_go()
            await run.undo(lost)
        except asyncio.CancelledError:  # the run has failed all the same, and says with what
            lost += run.leave_undone()
        if not lost:
            raise
        not_undone = f"not undone: {'; '.join(lost)}"
        if isinstance(error, RefusedError):
            left(error, not_undone)
            raise
        told = NodeFailedError(f"{_words(error)}; {not_undone}")
        noted(told, node_of(error))
        left(told, str(told))
        raise told from error
    finally:
        run.flow.stand_still(still=False)
    return run.result()


@dataclass(slots=True)
class _Run:
    shape: Shape
    going: Going
    flow: Flow
    values: dict[str, Any] = field(default_factory=dict[str, Any])
    """What finished nodes gave, by name; in a loop their latest."""
    given: dict[str, Any] = field(default_factory=dict[str, Any])
    history: dict[str, list[Any]] = field(default_factory=dict[str, list[Any]])
    rounds: dict[str, int] = field(default_factory=dict[str, int])
    """Of each loop, by its last node."""
    taken: dict[int, bool] = field(default_factory=dict[int, bool])
    """Edges that are decided: whether they are taken."""
    begun: set[str] = field(default_factory=set[str])
    """Nodes that run, or ran, or never will, in the rounds that are under way."""
    ever: set[str] = field(default_factory=set[str])
    """Nodes that began at least once."""
    done: dict[str, Taken] = field(default_factory=dict[str, Taken])
    """Nodes that need not run: what is taken in their place the first time."""
    resumed: set[str] = field(default_factory=set[str])
    """Nodes whose latest output was done already."""
    made: list[_Made] = field(default_factory=list[_Made])
    undoing: _Made | None = None
    tasks: dict[asyncio.Task[Any], str] = field(default_factory=dict[Any, str])
    attempts: Attempts = field(init=False)

    def __post_init__(self) -> None:
        self.attempts = Attempts(self.going.name, self.flow)

    async def take_over(self) -> None:
        """Have on disk what is done already, before anything begins: who goes on from this run has to know it, too."""
        for name, node in self.shape.nodes.items():
            done = self._done_already(node)
            if done is not None:
                self.done[name] = done
        if self.done:
            self.flow.taken_over(self.done)
            await self.flow.on_disk()

    def refuse_unapproved(self) -> None:
        """End the run before it does anything, where nobody could say yes to what can't be undone."""
        if at_terminal():
            return
        for node in self.shape.nodes.values():
            if node.irreversible and node.approve is None and node.name not in self.done:
                named = f"node {node.name!r} is irreversible and has nobody to ask"
                detail = f"{named}: give it approve=, or run it in a terminal"
                raise ApprovalDeniedError(Stop("denied", f"node:{node.name}", "approval", detail=detail))

    async def until_over(self) -> None:
        """Run nodes until there is none left to run."""
        for name in self.shape.start:
            self._begin(name, self._read(name))
        while self.tasks:
            done, _ = await asyncio.wait(self.tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = None if task.cancelled() else task.exception()
                if error is not None:
                    noted(error, self.tasks[task])
                if task.cancelled() or error is not None:
                    task.result()  # raises; what was finished beside it is found by let_go
            for task in sorted(done, key=lambda each: self.shape.order.index(self.tasks[each])):
                name = self.tasks.pop(task)
                try:
                    await self._finished(name, task.result())
                except Exception as error:
                    noted(error, name)
                    raise

    async def let_go(self) -> None:
        """End what still runs; what is finished by then, if only in part, may have to be undone, too."""
        left = dict(self.tasks)
        gave = asyncio.gather(*left, return_exceptions=True)  # which looks at what each raises, whoever waits
        await ended(left)
        for name, output in zip(left.values(), await gave, strict=True):
            if not isinstance(output, BaseException):
                node = self.shape.nodes[name]
                self.made.append(_Made(node, output, self._context(node)))
        for name, outputs in self.attempts.parts.items():
            if outputs:
                node = self.shape.nodes[name]
                self.made.append(_Made(node, outputs, self._context(node), partial=True))

    # One node

    def _begin(self, name: str, value: Any) -> None:
        node = self.shape.nodes[name]
        self.begun.add(name)
        self.given[name] = value
        self.resumed.discard(name)
        if name in self.done and name not in self.ever:
            self.resumed.add(name)
            work = self._from_done(name)
        else:
            work = self.attempts.carry_out(node, value, self._named(node), self._context(node))
        self.ever.add(name)
        self.tasks[asyncio.ensure_future(work)] = name

    def _read(self, name: str) -> Any:
        kind = model_of(self.shape.nodes[name].takes)
        if kind is None:
            return self.going.inputs
        try:
            return read_as(kind, dict(self.going.inputs))
        except ValueError as error:
            told = "; ".join(line.removeprefix("it: ") for line in str(error).splitlines())
            raise NodeFailedError(f"the run's inputs don't fit {name}: {told}") from None

    def _named(self, node: Node) -> bool:
        """Whether it takes its values by name."""
        sources = self.shape.sources(node.name) if self.shape.meetings[node.name] == "join" else ()
        return node.binding(sources) == "by_name"

    def _context(self, node: Node) -> NodeContext:
        going = self.going
        return NodeContext(
            node.name,
            going.inputs,
            going.gate,
            self.values,
            self.history,
            self.given,
            round=self.rounds.get(self.shape.loop_of(node.name), 1),
            means=going.means,
        )

    def _done_already(self, node: Node) -> Taken | None:
        """What is taken in its place, where what it would do is done already."""
        for done in (self.going.before, self.going.done):
            # A crew's task that happens to have its name is no reason to leave out what has an effect.
            own = () if node.irreversible and isinstance(done, TasksDone) else (node.name,)
            for name in (*own, node.done_by):
                if name not in done:
                    continue
                rounds = [*(done.earlier.get(name, ()) if isinstance(done, Done) else ()), done[name]]
                try:
                    outputs = [read_as(node.returns, each) for each in rounds]
                except ValueError:
                    if not node.irreversible:
                        continue
                    outputs = rounds  # what can't be undone is not done again, whatever shape its output has
                # A node that changes what it is given must not change what another run goes on from.
                *earlier, output = [copy_of(listed(each)) for each in outputs]
                exact = all(reads_back(node.returns, each) for each in (*earlier, output))
                return Taken(output, name, earlier, exact, node.irreversible)
        return None

    async def _from_done(self, name: str) -> Any:
        done = self.done[name]
        self.flow.finished(name, done.output, taken_from=done.source, exact=done.exact)
        return done.output

    # What comes after

    async def _finished(self, name: str, output: Any) -> None:
        node = self.shape.nodes[name]
        self._keep(node, output)
        if node.irreversible:
            await self.flow.on_disk()  # before what follows begins
        loop, begins = self.shape.loops.get(name), partial(self.flow.in_thread, name)
        # A loop whose end was done already was left: its rounds are used up, perhaps.
        if loop is not None and name not in self.resumed and await self._again(name, output):
            value = output
            if loop.passes is not None:
                value = await settled(await call_with(loop.passes, output, self._context(node), begins))
            self._reset(name)
            self._begin(loop.target, value)
            return
        outcome = self._outcome(name, output)
        for place in self.shape.out[name]:
            edge = self.shape.edges[place]
            self.taken[place] = not edge.branches or edge.outcome == outcome
        self._go_on(name)

    def _keep(self, node: Node, output: Any) -> None:
        """Know what a node gave, in the rounds before as well where these were taken over."""
        earlier = self.done[node.name].earlier if node.name in self.resumed else ()
        self.values[node.name] = output
        history, context = self.history.setdefault(node.name, []), self._context(node)
        for each in (*earlier, output):
            history.append(each)
            self.made.append(_Made(node, each, context))

    async def _again(self, name: str, output: Any) -> bool:
        loop = self.shape.loops[name]
        round_ = self.rounds.get(name, 1)
        begins = partial(self.flow.in_thread, name)
        again = await call_with(loop.again, output, self._context(self.shape.nodes[name]), begins)
        if not isinstance(again, bool):
            raise NodeFailedError(f"the loop after {name}: again= gave {shown(again)}, neither True nor False")
        if not again:
            return False
        if round_ < (loop.rounds or 1):
            self.rounds[name] = round_ + 1
            return True
        if loop.then == "go_on":
            return False
        last = f"; it gave {shown(output)}"
        raise NodeFailedError(f"{name} still wants another round after {round_}, the most there may be{last}")

    def _outcome(self, name: str, output: Any) -> Any:
        branch = self.shape.branches.get(name)
        if branch is None:
            return None
        try:
            return branch.outcome(output)
        except Exception as error:
            raise NodeFailedError(f"the branch after {name}: {_words(error)}") from error

    def _reset(self, source: str) -> None:
        """Another round: what stands in the loop is open again."""
        body = self.shape.bodies[source]
        self.begun -= body
        for place, edge in enumerate(self.shape.edges):
            if edge.source in body:
                self.taken.pop(place, None)
        for other, inner in self.shape.bodies.items():
            if inner < body:
                self.rounds.pop(other, None)
                for name in inner:
                    self.history.pop(name, None)

    def _go_on(self, name: str) -> None:
        """Begin what is decided now; what no taken edge leads to is passed over, and what comes after it looked at."""
        todo = [name]
        while todo:
            for place in self.shape.out[todo.pop()]:
                target = self.shape.edges[place].target
                into = self.shape.into[target]
                if target in self.begun or any(each not in self.taken for each in into):
                    continue
                live = [each for each in into if self.taken[each]]
                if live:
                    self._begin(target, self._value_for(target, live))
                    continue
                self.begun.add(target)
                for each in self.shape.out[target]:
                    self.taken[each] = False
                todo.append(target)

    def _value_for(self, target: str, live: list[int]) -> Any:
        edges = [self.shape.edges[place] for place in live]
        passed = {each.source: self.values[each.source] for each in edges if each.passes == "output"}
        passed |= {each.source: self.given[each.source] for each in edges if each.passes == "input"}
        return passed if self.shape.meetings[target] == "join" and len(passed) > 1 else next(iter(passed.values()))

    # The end

    def result(self) -> RuntimeResult:
        """What the end gave; of several ends, all by name."""
        ends = {name: self.values[name] for name in self.shape.ends if name in self.values}
        output = next(iter(ends.values())) if len(ends) == 1 else ends
        empty = next((name for name, value in ends.items() if value is None), None)
        if empty is not None:
            return RuntimeResult(None, self.values, partial=True, reason=f"its last node, {empty}, gave nothing")
        return RuntimeResult(output, self.values)

    def to_undo(self) -> list[_Made]:
        """What was finished and can be undone, the latest first."""
        return [made for made in reversed(self.made) if made.node.compensate is not None]

    async def undo(self, lost: list[str]) -> None:
        """Undo what was finished, the latest first; what could not be is added to what is lost, with the reason."""
        failed = [(name, self.attempts.done_for_good(self.shape.nodes[name])) for name in self.attempts.parts]
        lost += [f"{name} ({stays})" for name, stays in failed if stays]
        while left := self.to_undo():
            made = left[0]
            self.undoing = made
            problem, cut = await self.attempts.undo(made.node, made.output, made.context, partial=made.partial)
            self.made.remove(made)
            self.undoing = None
            self.flow.undone(made.node.name, problem, cut=cut, partial=made.partial)
            if problem:
                lost.append(f"{made.node.name} ({problem})")
            await self.flow.on_disk()

    def leave_undone(self) -> list[str]:
        """Have the journal say, once, of all that is left to undo that it stays; it is given back, with the reason."""
        why, stay = "the run was ended before it could be undone", self.to_undo()
        for made in stay:
            self.flow.undone(made.node.name, why, cut=made is self.undoing, partial=made.partial)
        self.made.clear()
        return [f"{made.node.name} ({why})" for made in stay]


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, NodeFailedError) else error_words(error)
