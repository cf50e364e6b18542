"""What a journal says is done: the outputs of finished nodes, to resume a workflow from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast, get_origin

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from crew_guard.core.events import Event, RunStarted
from crew_guard.core.plain import plain, shown, writable
from crew_guard.core.tools import explain_validation
from crew_guard.errors import WorkflowError
from crew_guard.workflows.alike import alike
from crew_guard.workflows.asking import copy_of
from crew_guard.workflows.rounds import OF_NODES, Record, records_of
from crew_guard.workflows.shape import Shape


class Done(dict[str, Any]):
    """What is done: outputs by node, as JSON values; of nodes in a loop those of their last round."""

    def __init__(self, outputs: Mapping[str, Any], earlier: Mapping[str, Sequence[Any]]) -> None:
        super().__init__(outputs)
        self.earlier = earlier
        """What the rounds before gave, by node, the first one first."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a journal says of a workflow."""

    done: Done
    """All that is finished and was not undone, nor built on what was."""
    problems: list[str]
    """Why nobody can go on from it."""


def journal_of(workflow: str, events: Any) -> list[Event]:
    """A run's journal, where the workflow of this name was begun in the run.

    Raises:
        WorkflowError: it is none, it has not all of the run's events, or nothing of the workflow was begun
    """
    whole = isinstance(events, Iterable) and not isinstance(events, str | bytes)
    journal = list(cast("Iterable[Any]", events)) if whole else []
    problem = _no_journal(workflow, journal) if whole else f"{_WANTED}, not {shown(events)}"
    if problem:
        raise WorkflowError(f"workflow {workflow!r}: {problem}")
    return journal


_WANTED = "it goes on from a run's journal, as store.read(run_id) gives it"


def _no_journal(workflow: str, journal: list[Any]) -> str:
    """Why nothing can go on from this; nothing where it can."""
    odd = [each for each in journal if not isinstance(each, Event)]
    if odd:
        return f"{_WANTED}, and {shown(odd[0])} is no event"
    if not journal:
        return f"{_WANTED}; this one is empty, or was read already"
    if not any(isinstance(each, RunStarted) for each in journal):
        return f"{_WANTED}; this one lacks its RunStarted, and perhaps more"
    names = {each.workflow: None for each in journal if isinstance(each, OF_NODES)}
    if workflow in names:
        return ""
    if names:
        others = ", ".join(map(repr, names))
        return f"this journal is of {others}: what is to go on from it has to have that name"
    return (
        "none of its nodes was begun in the run of this journal. Run it from its start; or, if that run was to go on "
        "from an earlier one, go on from the journal of that one"
    )


def checkpoint_of(
    shape: Shape, workflow: str, events: Iterable[Event], given: Mapping[str, Any], again: Collection[str]
) -> Checkpoint:
    """Where a run was.

    What has an effect that stands, since it can't be undone or was not, is done, whatever it was built on. Of the other
    nodes those are made again that were undone, or whose output the journal has not as it was, and all that came after
    them; where one of these stands in a loop, and where a loop was not left, its rounds begin anew. What the run itself
    had taken over is done, whether it came to it or not.

    Args:
        shape: the workflow's
        workflow: its name
        events: a run's journal
        given: what nodes gave, by name, where whoever goes on knows better
        again: nodes that are to run once more
    """
    found = _Found(shape, records_of(workflow, events), given, frozenset(again))
    return Checkpoint(found.done(), found.unknown() or found.doubts())


_TAKEN_OUT = "its secrets, without its end, or without characters that are no Unicode"


@dataclass(slots=True)
class _Found:
    """What follows from a journal for whoever goes on."""

    shape: Shape
    records: dict[str, Record]
    given: Mapping[str, Any]
    again: frozenset[str]
    remade: set[str] = field(init=False)
    """Nodes of which nothing that stands can be taken."""
    anew: set[str] = field(init=False)
    """The same, and what was built on them, and the loops that were not left."""

    def __post_init__(self) -> None:
        self.remade = {name for name in self.records if name in self.shape.nodes and self._is_remade(name)}
        self.anew = self._anew()

    def done(self) -> Done:
        """What is taken over, where there are no doubts."""
        records = {name: each for name, each in self.records.items() if name in self.shape.nodes}
        kept = {
            name: each.standing
            for name, each in records.items()
            if each.standing and name not in self.again and (name not in self.anew or self._acts(name))
        }
        outputs = {name: copy_of(rounds[-1].output) for name, rounds in kept.items()}
        earlier = {
            name: [copy_of(each.output) for each in rounds[:-1]]
            for name, rounds in kept.items()
            if len(rounds) > 1 and not records[name].half_undone and not self._repeats(name)
        }
        return Done(outputs | {name: each for name, each in self.given.items() if name in self.shape.nodes}, earlier)

    def unknown(self) -> list[str]:
        """Names that nothing has."""
        known = self.shape.nodes.keys() | {name for name in self.records if self._lasting(name)}
        return [f"there is no node {name!r}" for name in (*self.given, *self.again) if name not in known]

    def doubts(self) -> list[str]:
        """What perhaps is done, and nobody knows, or has been done and would be done once more."""
        return [each for name in self.records if name not in self.again and (each := self._doubt(name))]

    # One node

    def _acts(self, name: str) -> bool:
        """Whether it has an effect that stays as long as it is not undone."""
        node, record = self.shape.nodes[name], self.records[name]
        return node.irreversible or node.compensate is not None or record.approved or record.stays

    def _is_remade(self, name: str) -> bool:
        record = self.records[name]
        if name in self.again or name in self.given:
            return name in self.again
        gone = record.rounds and not record.standing
        return bool(gone or record.half_undone or (record.lost and not self._acts(name)))

    def _doubt(self, name: str) -> str:
        if name not in self.shape.nodes:
            why = "" if name in self.given else self._lasting(name)
            return why and (
                f"{name!r} {why}, and the workflow has no node of that name. Where another one does the same, say what "
                f"it gave, done={{its name: …}}, or it is done once more; and go on with done={{{name!r}: …}}"
            )
        record = self.records[name]
        once = record.once or not (record.half_undone or self._repeats(name))
        why = "" if name in self.given and once else self._why(name)
        return why and f"{name!r} {why}. {self._advice(name, once=once)}"

    def _lasting(self, name: str) -> str:
        """What the journal alone says of a node that perhaps left something, as what follows its name."""
        record = self.records[name]
        for_good = "can't be undone, and was done" if record.approved and record.standing else ""
        return record.half_undone or record.unsure or for_good or ("could not be undone" if record.stays else "")

    def _why(self, name: str) -> str:
        record = self.records[name]
        if record.half_undone or not (record.standing and self._acts(name)):
            return record.half_undone or record.unsure
        for_good = record.approved or self.shape.nodes[name].irreversible
        stands = "can't be undone, and was done" if for_good else "is not undone, and was done"
        if self._begins_anew(name) and not self._settled(name):
            return f"{stands} in a round of a loop that begins anew{self._since(name)}"
        if record.unsure:
            return record.unsure
        if record.lost == "text":
            return f"{stands}, and its output is in the journal without {_TAKEN_OUT}"
        return f"{stands}, and JSON has no word for something in its output" if record.lost and not for_good else ""

    def _advice(self, name: str, *, once: bool) -> str:
        asked = "asked about and " if self.shape.nodes[name].irreversible else ""
        if once:
            over = ", and its loop is over," if name in self.shape.loops and self._begins_anew(name) else ","
            return (
                f"Look whether its effect is there, then go on with done={{{name!r}: what it gave}}{over} or with "
                f"again=[{name!r}] to have it {asked}done once more"
            )
        return (
            f"Look which of its effects are there; what it gave would stand for one of its rounds only, so go on with "
            f"again=[{name!r}] to have all of them {asked}done once more, or with a workflow without it"
        )

    # What was built on what

    def _anew(self) -> set[str]:
        half = {name for name in self.given if name in self.shape.nodes and self._half_undone(name)}
        over = {name for name, each in self.records.items() if each.over}
        changed = self.remade | half
        # What was taken over was not built on what the run itself made.
        built = after(self.shape, changed & (over | self.again)) | (after(self.shape, changed) - over)
        under_way = [body for source, body in self.shape.bodies.items() if not self._was_left(source)]
        return self.remade.union(built, *under_way)

    def _half_undone(self, name: str) -> bool:
        return name in self.records and bool(self.records[name].half_undone)

    def _was_left(self, source: str) -> bool:
        """Whether the loop that goes back from this node was left."""
        following = {self.shape.edges[place].target for place in self.shape.out[source]}
        begun = any(name in self.records and self.records[name].begun for name in following)
        return begun or self._over(source)

    def _over(self, name: str) -> bool:
        return name in self.records and self.records[name].over

    def _begins_anew(self, name: str) -> bool:
        """Whether a loop that it stands in does."""
        return any(name in body and body & self.anew for body in self.shape.bodies.values())

    def _repeats(self, name: str) -> bool:
        """Whether more rounds of it may follow where its output is given: that of a loop's last node ends the loop."""
        around = (body for source, body in self.shape.bodies.items() if name in body and source != name)
        return any(body & self.anew for body in around)

    def _settled(self, name: str) -> bool:
        """Whether it was taken over though its loop was not left: whoever went on before has said what it gave."""
        around = [source for source, body in self.shape.bodies.items() if name in body]
        return self._over(name) and not any(map(self._over, around))

    def _since(self, name: str) -> str:
        """Why a loop that was left begins anew."""
        body = frozenset[str]().union(*(body for body in self.shape.bodies.values() if name in body))
        remade = [each for each in self.shape.order if each in self.remade]
        causes = [each for each in remade if body & {each, *after(self.shape, [each])}]
        return f", since {', '.join(map(repr, causes))} is made again" if causes else ""


def after(shape: Shape, nodes: Iterable[str]) -> set[str]:
    """The nodes that come after these, in another round of a loop as well."""
    found: set[str] = set()
    todo = [name for name in nodes if name in shape.nodes]
    while todo:
        name = todo.pop()
        after = {shape.edges[place].target for place in shape.out[name]}
        if name in shape.loops:
            after.add(shape.loops[name].target)
        todo += after - found
        found |= after
    return found


def reads_back(hint: Any, value: Any) -> bool:
    """Whether what is kept of a value, as JSON values, gives just that value when it is read as this type."""
    kept = plain(value)
    try:
        back = read_as(hint, kept)
        return bool(back == value) and alike(back, value) and writable(kept)
    except Exception:  # noqa: BLE001  objects of users raise what they like when they are compared
        return False


def read_as(hint: Any, value: Any) -> Any:
    """A value as this type: itself where it is one, else read from JSON values.

    Raises:
        ValueError: it is none
    """
    if hint is Any or (isinstance(hint, type) and get_origin(hint) is None and isinstance(value, hint)):
        return value
    try:
        return TypeAdapter[Any](hint).validate_python(value)
    except ValidationError as error:
        raise ValueError(explain_validation(error, "it")) from None
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError):
        return value  # a type that nothing can be read as: what there is is taken as it is
