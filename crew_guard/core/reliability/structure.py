"""How the success of a crew follows from that of its parts, as a tree of values.

A leaf names a part; the same name twice is the same part asked twice. Every node is a formula of its children's
success rates: `point` walks the tree once. Bounds are in bounds.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from crew_guard.core.reliability import formulas

ICC = 0.45
"""How alike two trials of one task end, until it is measured: 0 is independent, 1 is always the same."""
BETA = 0.1
"""The share of failures with a common cause, until it is measured."""
Taken: TypeAlias = Literal["alike", "worst", "best"]
_SMALL = 1e-5
_CELLS = 1024


class _Node(Struct, frozen=True, tag=True):
    pass


class Leaf(_Node, frozen=True):
    """One part: an agent's task, or a node."""

    name: str


class Chain(_Node, frozen=True):
    """One after the other; each must succeed."""

    parts: tuple[Structure, ...]


class AllOf(_Node, frozen=True):
    """Side by side; each must succeed."""

    parts: tuple[Structure, ...]


class AnyOf(_Node, frozen=True):
    """Side by side; one good answer is enough if it is picked."""

    parts: tuple[Structure, ...]
    judge: float = 1.0
    """The chance that a good answer is picked where there are bad ones, too."""


class KOfN(_Node, frozen=True):
    """Side by side; at least k must succeed."""

    k: int
    parts: tuple[Structure, ...]


class OneOf(_Node, frozen=True):
    """One of several ways is taken, and must succeed."""

    parts: tuple[Structure, ...]
    shares: tuple[float, ...] = ()
    """How often each is taken, 1 in all; empty where nobody knows."""
    taken: Taken = "alike"
    """What is reckoned with where nobody knows: each as often as another, or always the worst or the best of them."""

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("OneOf: parts is empty; expected the ways of which one is taken")
        whole = math.isclose(sum(self.shares), 1.0, abs_tol=_SMALL)
        if self.shares and (len(self.shares) != len(self.parts) or min(self.shares) < 0 or not whole):
            raise ValueError(
                f"OneOf: shares is {self.shares}; expected {len(self.parts)} numbers, one for each way, none below 0 "
                "and 1 in all, or () where nobody knows"
            )


class Retry(_Node, frozen=True):
    """Tried again, up to `times` more, while a verifier flags the answer. A flagged last answer is a failure."""

    part: Structure
    times: int = 1
    sensitivity: float = 1.0
    """P(flagged | bad)"""
    specificity: float = 1.0
    """P(accepted | good)"""
    icc: float = ICC


class Loop(_Node, frozen=True):
    """An evaluator flags, an optimizer revises, for at most `rounds` revisions."""

    part: Structure
    fix: float
    """P(a revision makes a bad answer good)"""
    breaks: float
    """P(a revision makes a good answer bad)"""
    rounds: int
    sensitivity: float = 1.0
    specificity: float = 1.0
    keep_last: bool = False
    """Whether an answer that is flagged to the end is used all the same."""


class Vote(_Node, frozen=True):
    """The majority of several trials of one task; a tie is a failure."""

    part: Structure
    voters: int
    icc: float = ICC


class AheadByK(_Node, frozen=True):
    """Trials of one task go on until one answer is ahead by k votes."""

    part: Structure
    k: int
    icc: float = ICC
    votes: int = 0
    """At most so many: then the leader wins, and a tie is a failure. 0 is no bound."""


class Repeat(_Node, frozen=True):
    """The same task several times, each must succeed: pass^k."""

    part: Structure
    times: int
    icc: float = ICC


class CommonCause(_Node, frozen=True):
    """A share `beta` of the failures of what is inside hits all of it at once."""

    part: Structure
    beta: float = BETA


Structure: TypeAlias = (
    Leaf | Chain | AllOf | AnyOf | KOfN | OneOf | Retry | Loop | Vote | AheadByK | Repeat | CommonCause
)


def names(structure: Structure) -> tuple[str, ...]:
    """The leaves' names in order, each once."""
    return tuple(dict.fromkeys(_leaves(structure)))


def parts_of(structure: Structure) -> tuple[Structure, ...]:
    """A node's children."""
    if isinstance(structure, Leaf):
        return ()
    if isinstance(structure, Chain | AllOf | AnyOf | KOfN | OneOf):
        return structure.parts
    return (structure.part,)


def reckoned(structure: Structure, taken: Taken) -> Structure:
    """The same with this way taken of all whose shares nobody knows.

    With "worst" it is never more than the truth, wherever a better part never makes the whole worse.
    """
    if isinstance(structure, Leaf):
        return structure
    if isinstance(structure, Chain | AllOf | AnyOf | KOfN | OneOf):
        parts = tuple(reckoned(part, taken) for part in structure.parts)
        return replace(structure, parts=parts, taken=taken) if _open(structure) else replace(structure, parts=parts)
    return replace(structure, part=reckoned(structure.part, taken))


def _open(structure: Structure) -> bool:
    return isinstance(structure, OneOf) and not structure.shares


def _leaves(structure: Structure) -> Iterator[str]:
    if isinstance(structure, Leaf):
        yield structure.name
    for part in parts_of(structure):
        yield from _leaves(part)


def series(structure: Structure) -> dict[str, int] | None:
    """How often each leaf must succeed where all of them must; None where the graph is another one."""
    if isinstance(structure, Leaf):
        return {structure.name: 1}
    if not isinstance(structure, Chain | AllOf):
        return None
    found: dict[str, int] = {}
    for part in structure.parts:
        inner = series(part)
        if inner is None:
            return None
        for name, times in inner.items():
            found[name] = found.get(name, 0) + times
    return found


def point(structure: Structure, p: Mapping[str, float]) -> float:
    """The chance that the whole succeeds, given its leaves'.

    Args:
        p: success rate by leaf; a part that is done is 1.0
    Raises:
        KeyError: a leaf that p doesn't know
    """
    if isinstance(structure, Leaf):
        return p[structure.name]
    if isinstance(structure, CommonCause):
        return _common(structure, p)
    return _combined(structure, [point(part, p) for part in parts_of(structure)])


def _combined(node: Structure, values: Sequence[float]) -> float:
    """A node's success rate from its children's, in the order of parts_of."""
    match node:
        case Chain() | AllOf():
            return math.prod(values)
        case AnyOf():
            return formulas.any_of(values, node.judge)
        case KOfN():
            return formulas.k_of_n(values, node.k)
        case OneOf():
            return _one_of(node, values)
        case _:
            return _around(node, values[0])


def _around(node: Structure, value: float) -> float:
    """Of a node with one child."""
    match node:
        case Retry():
            return formulas.retry(value, node.times, node.sensitivity, node.specificity, node.icc).good
        case Loop():
            revise, verifier = (node.fix, node.breaks), (node.sensitivity, node.specificity)
            return formulas.loop(value, revise, verifier, node.rounds, keep_last=node.keep_last)
        case Vote():
            return formulas.majority(value, node.voters, node.icc)
        case AheadByK():
            return formulas.ahead_by(value, node.k, node.icc, node.votes)
        case Repeat():
            return formulas.moment(value, node.icc, node.times, 0)
        case _:
            return value


def _one_of(node: OneOf, values: Sequence[float]) -> float:
    if node.shares:
        return math.fsum(share * value for share, value in zip(node.shares, values, strict=True))
    match node.taken:
        case "worst":
            return min(values)
        case "best":
            return max(values)
        case "alike":
            return math.fsum(values) / len(values)


def _common(node: CommonCause, p: Mapping[str, float]) -> float:
    return _shocked(node, [point(one, p) for one in _struck(node)])


def _struck(node: CommonCause) -> tuple[Structure, ...]:
    """What its shock hits: the children of its part, the leaf that this is, or what the shock of this one hits."""
    part = node.part
    return _struck(part) if isinstance(part, CommonCause) else parts_of(part) or (part,)


def _shocked(node: CommonCause, own: Sequence[float]) -> float:
    """From the rates of what it hits."""
    part = node.part
    # The shock can't be likelier than the failure of the best part: its own rate must stay what it is.
    shock = node.beta * min(1.0 - value for value in own)
    if shock >= 1:
        return 0.0
    alone = [value / (1.0 - shock) for value in own]
    return (1.0 - shock) * (_shocked(part, alone) if isinstance(part, CommonCause) else _combined(part, alone))


def compiled(structure: Structure) -> Callable[[Mapping[str, float]], float]:
    """`point` for thousands of draws: the same to five digits, at a fraction of its cost.

    A node with one child is a curve of its child's rate: it is tabled as it is asked for, and interpolated.
    """
    match structure:
        case Leaf(name):
            return itemgetter(name)
        case Chain() | AllOf() | AnyOf() | KOfN() | OneOf():
            parts = [compiled(part) for part in structure.parts]
            return lambda p: _combined(structure, [part(p) for part in parts])
        case CommonCause():
            inner = [compiled(one) for one in _struck(structure)]
            return lambda p: _shocked(structure, [one(p) for one in inner])
        case _:
            child, curve = compiled(structure.part), _Curve(structure)
            return lambda p: curve(child(p))


class _Curve:
    """A node with one child, as a function of its child's rate."""

    def __init__(self, node: Structure) -> None:
        self._node = node
        self._known: dict[int, float] = {}

    def __call__(self, rate: float) -> float:
        cell = min(_CELLS - 1, int(rate * _CELLS))
        left = self._at(cell)
        return left + (rate * _CELLS - cell) * (self._at(cell + 1) - left)

    def _at(self, cell: int) -> float:
        known = self._known.get(cell)
        if known is None:
            known = self._known[cell] = _combined(self._node, [cell / _CELLS])
        return known


def leverage(structure: Structure, p: Mapping[str, float]) -> dict[str, float]:
    """How much the whole gains for each point that a leaf gains: the derivative, the greatest first.

    In a chain it is R / p: the weakest first.
    """
    found: dict[str, float] = {}
    for name in names(structure):
        low, high = max(0.0, p[name] - _SMALL), min(1.0, p[name] + _SMALL)
        rise = point(structure, {**p, name: high}) - point(structure, {**p, name: low})
        found[name] = rise / (high - low)
    return dict(sorted(found.items(), key=lambda item: -item[1]))
