"""Objects that are to be let go of: where one is not, what holds it is told."""

import gc
import threading

from crew_guard.testing.held import Kept

HELD: list[object] = []


class Thing:
    """Something that is to be let go of."""


def test_what_is_let_go_of_is_not_left():
    """Also where only the collector finds that out."""
    kept, thing = Kept(), Thing()
    thing.own = thing  # type: ignore[attr-defined]
    kept.add(thing)
    del thing
    assert kept.left() == []


def test_what_is_held_is_told_with_its_holder():
    """From the module down."""
    kept, thing = Kept(), Thing()
    kept.add(thing)
    HELD.append({"one": thing})
    del thing
    (told,) = kept.left(0)
    HELD.clear()
    assert told.startswith(f"builtins.module {__name__} > ")
    assert told.endswith(f" > builtins.list > builtins.dict one > {__name__}.Thing")
    assert kept.left() == []


def test_a_slow_collector_takes_no_time_from_whoever_lets_go(monkeypatch):
    """The seconds are theirs alone."""
    kept, holder = Kept(), [Thing()]
    kept.add(holder[0])
    looks = []

    def collect():
        threading.Event().wait(0.2)
        looks.append("look")
        if len(looks) == 3:
            holder.clear()

    monkeypatch.setattr(gc, "collect", collect)
    assert kept.left(0.2) == []
    assert len(looks) == 3
