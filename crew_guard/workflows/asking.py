"""Whether an irreversible node may run: its approver says so, or a person at the terminal. Else the answer is no."""

from __future__ import annotations

import json
import os
import select
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from pydantic import BaseModel

from crew_guard.core.plain import plain, shown
from crew_guard.core.roles import Verdict
from crew_guard.core.verdicts import raised, verdict_of
from crew_guard.workflows.calling import Begins, beside_the_loop, call, named_while_on, what_was_raised

_LONGEST = 2_000
"""Characters of the value that a person is shown."""
_LOOK = 0.2
"""Seconds after which a question that nobody waits for any more is given up."""
_YES = ("y", "yes")
_one_at_a_time = threading.Lock()
"""Held from a question until its answer: what is typed must not go to the question of another run or node."""


@dataclass(frozen=True, slots=True)
class Approval:
    """What somebody is asked to approve."""

    workflow: str
    node: str
    value: Any
    """What the node is about to act on."""
    inputs: Mapping[str, Any]
    """The run's."""

    @property
    def text(self) -> str:
        """The value in words; of a long one the start, and how long it is."""
        return cut(self.whole, _LONGEST)

    @property
    def whole(self) -> str:
        """The same, however long."""
        return self.value if isinstance(self.value, str) else json.dumps(plain(self.value), ensure_ascii=False)


def cut(text: str, longest: int) -> str:
    """A text in so many characters at the most, before the note that it is cut."""
    return (
        text if len(text) <= longest else f"{text[:longest]}… [cut: the first {longest:,} of {len(text):,} characters]"
    )


def copy_of(value: Any) -> Any:
    """A copy of data, that whoever has the value can't change; objects in it, but pydantic's models, are themselves."""
    try:
        return _copied(value, {})
    except RecursionError:
        return value  # whether it changes is seen all the same


def _copied(value: Any, known: dict[int, Any]) -> Any:
    own, kind = id(value), value.__class__
    if own in known:
        return known[own]
    made: Any = value
    if kind is dict:
        made = known[own] = {}
        made.update({name: _copied(each, known) for name, each in value.items()})
    elif kind is list:
        made = known[own] = []
        made.extend([_copied(each, known) for each in value])
    elif kind is tuple:
        made = tuple([_copied(each, known) for each in value])
    elif kind in (set, bytearray):
        made = value.copy()
    elif isinstance(value, BaseModel):
        made = known[own] = value.model_copy()
        made.__dict__.update({name: _copied(each, known) for name, each in value.__dict__.items()})
    return made


async def decision(approve: Callable[..., Any] | None, approval: Approval, begins: Begins) -> tuple[Verdict, str]:
    """(the answer, who gave it). Whatever is no clear yes is a no. See `named_while_on`."""
    if approve is None:
        if not at_terminal():
            return Verdict(passed=False, reason="there is nobody to ask: give it approve=, or run it in a terminal"), ""
        return await _at_the_terminal(approval), "the terminal"
    who = getattr(approve, "__name__", type(approve).__name__)
    try:
        given = await call(named_while_on(approve, begins), approval)
    except Exception as error:  # noqa: BLE001  an approver that raises has not said yes
        return raised(what_was_raised(error), "the approver"), who
    if not isinstance(given, bool | Verdict):
        reason = f"the approver gave {shown(given)}: it must give True, False or a Verdict"
        return Verdict(passed=False, reason=reason), who
    return verdict_of(given, who="the approver"), who


def at_terminal() -> bool:
    """Whether a person can be asked here: what is typed is read, and what is asked can be shown where it is typed."""
    if not _is_terminal(sys.stdin):
        return False
    try:
        with _screen():
            return True
    except OSError:
        return False


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()  # pythonw has none
    except ValueError:
        return False


@contextmanager
def _screen() -> Generator[TextIO]:
    """Where whoever types reads: stderr, unless that goes elsewhere, into a file say.

    Raises:
        OSError: there is no way to it
    """
    if _is_terminal(sys.stderr):
        yield sys.stderr
        return
    path = Path(os.ttyname(sys.stdin.fileno()) if os.name == "posix" else "CONOUT$")
    with path.open("w", encoding="utf-8") as screen:
        yield screen


async def _at_the_terminal(approval: Approval) -> Verdict:
    over = threading.Event()
    try:
        return await beside_the_loop(lambda: _asked(approval, over))
    finally:
        over.set()


class _GivenUpError(Exception):
    """Nobody waits for the answer any more."""


def _asked(approval: Approval, over: threading.Event) -> Verdict:
    about = "".join(each if each.isprintable() or each == "\n" else "�" for each in approval.text)
    with _the_terminal(over), _screen() as screen:
        _forget_what_was_typed(sys.stdin)
        screen.write(f"\n{approval.workflow}: {approval.node} can't be undone. It is about to act on:\n{about}\n")
        screen.write("Approve? [y/N] ")
        screen.flush()
        said = _line(sys.stdin, over).strip().lower()
    return Verdict(said in _YES, "" if said in _YES else f"answered {shown(said)}")


@contextmanager
def _the_terminal(over: threading.Event) -> Generator[None]:
    """Wait until no other question is open; give up with the run that asks."""
    while not _one_at_a_time.acquire(timeout=_LOOK):
        _go_on(over)
    try:
        _go_on(over)
        yield
    finally:
        _one_at_a_time.release()


def _go_on(over: threading.Event) -> None:
    if over.is_set():
        raise _GivenUpError


def _forget_what_was_typed(stream: TextIO) -> None:
    """What stands in the terminal's input before a question is no answer to it."""
    if os.name == "posix":
        import termios

        termios.tcflush(stream, termios.TCIFLUSH)


def _line(stream: TextIO, over: threading.Event) -> str:
    """The next line; what was asked for a run that has ended since leaves the terminal's input alone."""
    while os.name == "posix":
        typed, _, _ = select.select([stream], [], [], _LOOK)
        _go_on(over)
        if typed:
            break
    return stream.readline()
