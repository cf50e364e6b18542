"""The way of one execution: which method is a part of it, and which begins another."""

import threading

from crew_guard.adapters.way import Entry, Way


def entry(method, given=1, **more):
    """A call of a method `name` of a class, as `Class.name`."""
    return Entry(method.partition(".")[2], method, lambda: given, **more)


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


def test_what_can_not_be_read_or_compared_is_not_the_same():
    """As where a validator turns it down."""

    def turned_down():
        raise ValueError

    assert not Way(entry("Pay.run")).leads_to(Entry("arun", "Pay.arun", turned_down))
    assert not Way(Entry("run", "Pay.run")).leads_to(Entry("arun", "Pay.arun"))


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
            works.append(way.works())

        threads = [threading.Thread(target=come) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert parts.count(True) == works.count(True) == 1
