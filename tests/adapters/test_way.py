"""The way of one execution: which method is a part of it, and which begins another."""

import threading

import pytest

from crew_guard.adapters.way import Entry, Way


def entry(method, *values, given=1, **more):
    """A call of a method `name` of a class, as `Class.name`, with a number by name; or with values by position."""
    return Entry(method.partition(".")[2], method, (values, {} if values else {"n": given}), **more)


def test_bases_are_a_part_once_whatever_they_are_given():
    """A method may change the arguments for its base's."""
    way = Way(entry("Pay.run"))
    assert way.leads_to(entry("Base.run", given=2))
    assert not way.leads_to(entry("Base.run", given=2))
    assert not way.leads_to(entry("Pay.run"))


def test_a_twin_is_a_part_once_where_it_is_given_the_same():
    """Its own bases are, then."""
    way = Way(entry("Pay.run"))
    assert not way.leads_to(entry("Pay.arun", given=2))
    assert way.leads_to(entry("Pay.arun"))
    assert way.leads_to(entry("Base.arun", given=2))
    assert not way.leads_to(entry("Pay.arun"))


@pytest.mark.parametrize(
    ("asked", "twin", "same"),
    [
        (((), {"n": 1}), ((), {"n": 1, "request_id": 7}), True),  # it hands on what was filled in
        (((), {"n": 1, "state": {}}), ((), {"n": 1}), True),
        (((), {}), ((), {"n": 1}), True),  # a default
        ((("x",), {}), ((), {"query": "x"}), True),
        (((), {"query": "x"}), (("x",), {}), True),
        (((), {"query": "x"}), (("y",), {}), False),
        ((("x", 1), {}), (("x",), {"n": 2}), False),
        (((), {"n": 1}), ((), {"m": 1}), False),
        (((), {"n": 1, "m": 2}), ((), {"n": 1, "m": 3}), False),
    ],
)
def test_what_a_twin_is_given_by_another_name_or_beside_is_no_difference(asked, twin, same):
    """But each value that both have is the same."""
    assert Way(Entry("run", "Pay.run", asked)).leads_to(Entry("arun", "Pay.arun", twin)) is same


def test_a_twin_may_be_given_what_the_tool_made_of_its_arguments():
    """A number of a text, say."""
    read = [{"n": 1}.copy, {"n": 1}.copy]
    asked = Entry("run", "Pay.run", ((), {"n": "1"}), read[0])
    assert Way(asked).leads_to(Entry("arun", "Pay.arun", ((), {"n": 1}), read[1]))
    assert Way(asked).leads_to(Entry("arun", "Pay.arun", ((), {"n": "01"}), read[1]))
    assert not Way(asked).leads_to(Entry("arun", "Pay.arun", ((), {"n": 2}), {"n": 2}.copy))


def test_what_can_not_be_read_or_compared_is_not_the_same():
    """As where a validator turns it down."""

    class Odd:
        __hash__ = None

        def __eq__(self, other):
            raise ValueError

    def turned_down():
        raise ValueError

    way = Way(Entry("run", "Pay.run", ((), {"n": 2}), turned_down))
    assert not way.leads_to(entry("Pay.arun", parsed=turned_down))
    assert not Way(entry("Pay.run", given=Odd())).leads_to(entry("Pay.arun", given=Odd()))


def test_the_work_of_a_way_is_what_is_given_the_same_or_comes_first():
    """A workbench may ask a helper before, and may change the arguments; once the work is done there is no other."""
    way = Way(entry("Bench.call_tool"))
    assert way.works(entry("Audit.run_json", given="who?"))
    assert not way.works(entry("Other.run_json", given="why?"))
    assert way.works(entry("Pay.run_json"))
    assert not way.works(entry("Pay.run_json"))
    assert not way.works(entry("Audit.run_json", given="who?"))
    assert Way(entry("Bench.call_tool")).works(entry("Pay.run_json", given="changed"))


def test_a_way_that_is_over_keeps_nothing_that_it_was_given():
    """A task that it left behind is its twin's once, whatever that is given."""
    way = Way(entry("Pay.run"))
    way.over()
    assert way.leads_to(entry("Pay.arun", given=2))
    assert not way.leads_to(entry("Pay.arun", given=2))


def test_nothing_is_a_part_of_what_the_last_method_does():
    """That is the work itself."""
    way = Way(entry("Pay.run"))
    assert way.leads_to(entry("Base.run", is_last=True))
    assert not way.leads_to(entry("Pay.arun"))
    assert not Way(entry("Base.run", is_last=True)).leads_to(entry("Other.run"))


def test_another_execution_that_begins_at_a_base_goes_on_down():
    """What comes from there to the class's own method is one more; one that begins at the top goes the whole way."""
    way = Way(entry("Pay.run"))
    assert way.leads_to(entry("Base.run"))
    again = way.another(entry("Base.run"))
    assert not again.leads_to(entry("Pay.run"))
    assert again.leads_to(entry("Root.run"))
    assert way.another(entry("Pay.run")).leads_to(entry("Base.run"))


def test_of_many_at_the_same_time_one_is_the_part():
    """Threads that the tool starts, say."""
    for _ in range(20):
        way, start, parts, works = Way(entry("Pay.run")), threading.Barrier(8), [], []

        def come(way=way, start=start, parts=parts, works=works):
            start.wait()
            parts.append(way.leads_to(entry("Pay.arun")))
            works.append(way.works(entry("Pay.run_json")))

        threads = [threading.Thread(target=come) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert parts.count(True) == works.count(True) == 1
