"""Events become JSON whatever users put into them."""

from __future__ import annotations

import json
import math
import types

import pytest
from pydantic import BaseModel, field_serializer

from crew_guard.core.events import RunEnded, RunStarted, decode, encode
from crew_guard.core.limits import UNCAPPED
from crew_guard.testing.events import one_of_each


class NoAnswer:
    """Raises whatever is asked of it."""

    def __eq__(self, other):
        raise RuntimeError("not comparable")

    __hash__ = None

    def __repr__(self):
        raise RuntimeError("not printable")


class Ambiguous:
    """As an array: its comparison has no truth."""

    def __eq__(self, other):
        return self

    __hash__ = None

    def __bool__(self):
        raise ValueError("ambiguous")


class Unruly(BaseModel):
    """Its serialiser fails."""

    x: int = 1

    @field_serializer("x")
    def fail(self, value):
        raise KeyError("boom")


def nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


CYCLE = {}
CYCLE["self"] = [CYCLE]
ODD = {
    "object": object(),
    "raises": NoAnswer(),
    "ambiguous": Ambiguous(),
    "unruly": Unruly(),
    "bytes": b"\xff\x00",
    "nan": math.nan,
    "surrogate": "a\ud800",
    "surrogate key": {"\ud800": 1},
    "odd keys": {(1, 2): 1, None: 2, object(): 3, NoAnswer: 4},
    "cycle": CYCLE,
    "deep": nested(5000),
    "just too deep to be read": nested(220),
    "enormous integer": 10**5000,
    "proxy": types.MappingProxyType({"a": object()}),
    "class": NoAnswer,
    "set": {1, "\ud800"},
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_values_can_be_written_and_read(kind):
    """As an output and as an input; the other fields are kept."""
    value = ODD[kind]
    for event in (
        RunEnded(9, 1.5, "done", "crew", output=value, late=("a/b",)),
        RunStarted(1, 1.5, "crew", "native", "p", {"kept": 1, "odd": value}, UNCAPPED, UNCAPPED),
    ):
        name, body = encode(event)
        json.loads(body)
        again = decode(name, body)
        for field in set(event.__struct_fields__) - {"inputs", "output"}:
            assert getattr(again, field) == getattr(event, field)


def test_only_what_is_odd_is_changed():
    """The neighbours of an odd value stay as they are."""
    name, body = encode(RunEnded(2, 1.0, "done", output={"good": [1, {"b": None}], "bad": object(), "s": "\ud800!"}))
    output = decode(name, body).output
    assert output["good"] == [1, {"b": None}]
    assert output["bad"].startswith("<object object")
    assert output["s"] == "?!"


def test_every_event_is_read_back_as_it_was():
    """One of each kind, with values that are hard to keep."""
    assert [decode(*encode(event)) for event in one_of_each()] == one_of_each()
