"""Bounds of conversations that grow at their end, whatever a host does to its messages meanwhile."""

import json
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from crew_guard.adapters.hosted import json_of, writer
from crew_guard.adapters.stand_in import ABSENT, Shown, seam_of, stand_in
from crew_guard.adapters.tally import Tally, Weighed, state_of
from tests.adapters.llama_index_doubles import HungryLLM


class Scales:
    """Counts the characters of a message, and how often it is asked."""

    def __init__(self):
        self.asked = 0

    def __call__(self, message):
        self.asked += 1
        state = state_of(message)
        return Weighed(message, len(message.text), message.files, state, state.copy())


def said(text, files=0):
    return SimpleNamespace(text=text, files=files)


def weight(messages):
    return sum(len(one.text) for one in messages), sum(one.files for one in messages)


STEPS = st.lists(
    st.tuples(st.sampled_from(["say", "change", "drop", "copy", "instruct", "fork", "swap"]), st.integers(0, 9)),
    max_size=25,
)


@given(STEPS)
def test_a_conversation_is_weighed_as_if_for_the_first_time(steps):
    """Whatever is added, changed in place, dropped, copied, put first, or said in two conversations in turn."""
    tally = Tally(Scales())
    talk, other = [said("instructions")], [said("other")]
    for what, number in steps:
        place = number % len(talk) if talk else 0
        if what == "say":
            talk.append(said("x" * number, number % 2))
        elif what == "change" and talk:
            talk[place].text += "y" * number
        elif what == "drop":
            del talk[place : place + 1]
        elif what == "copy" and talk:
            talk[place] = said(talk[place].text, talk[place].files)
        elif what == "instruct" and talk:
            talk[0] = said("z" * number)
        elif what == "fork":
            other = list(talk)
        elif what == "swap":
            talk, other = other, talk
        assert tally.of(talk) == weight(talk)


def test_what_was_counted_is_not_counted_again():
    """Each message once, in a conversation that grows, beside another one that does, too."""
    scales = Scales()
    tally = Tally(scales)
    one, other = [said("one")], [said("other")]
    for number in range(50):
        one.append(said("a" * number))
        other.append(said("b" * number))
        assert tally.of(list(one)) == weight(one)
        assert tally.of(list(other)) == weight(other)
    assert scales.asked == 102


def test_messages_that_cannot_be_compared_are_counted_each_time():
    """An object that raises when it is compared is no reason to fail, nor to believe that it is as it was."""

    class Odd:
        def __eq__(self, other):
            raise ValueError("no")

        __hash__ = None

    def weigh(message):
        state = state_of(message)
        return Weighed(message, len(message.text), 0, state, {**state, "odd": Odd()})

    tally = Tally(weigh)
    message = SimpleNamespace(text="abc", files=0, odd=Odd())
    assert tally.of([message, message]) == (6, 0)
    message.text = "ab"
    assert tally.of([message, message]) == (4, 0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.builds(object),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_arguments_are_written_as_json_writes_them(value):
    """The quick way gives the same text, what JSON has no word for included."""
    assert json_of(value) == json.dumps(value, default=str)
    assert writer(repr, ascii_only=False)(value) == json.dumps(value, default=repr, ensure_ascii=False)


def test_a_stand_in_shows_what_it_is_told_and_keeps_the_rest():
    """Only the named attribute differs; what is set on the stand-in is set on the user's object."""

    def longest(double, name):
        return seam_of(double) if name == "answer_after" else ABSENT

    def methods(kind):
        return {"answer_after": Shown("answer_after", longest), "nothing": Shown("nothing", longest)}

    llm = HungryLLM(answer_after=3)
    double = stand_in(llm, 7, methods)
    assert (double.answer_after, llm.answer_after, double.parallel) == (7, 3, 1)
    assert not hasattr(double, "nothing")
    assert not hasattr(type(double), "nothing")
    double.answer_after = 4
    assert (double.answer_after, llm.answer_after) == (7, 4)
    assert double.served is llm.served
