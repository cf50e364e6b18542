"""A thread that a node begins when it is first needed, and that works for whoever comes later."""

import queue
import threading
from concurrent.futures import Future

import pytest

from crew_guard.adapters import langgraph
from tests.adapters.guarding import Guard, policy
from tests.adapters.langgraph_doubles import HungryChat, one_node


class Worker:
    """Asks a model for others, on a thread that is begun at the first question."""

    def __init__(self, model):
        self.model, self.asked, self.thread = model, queue.SimpleQueue(), None

    def ask(self, _=None):
        if self.thread is None:
            self.thread = threading.Thread(target=self.work, daemon=True)
            self.thread.start()
        answer = Future()
        self.asked.put(answer)
        answer.result(10)
        return {"found": []}

    def work(self):
        while True:
            answer = self.asked.get()
            try:
                answer.set_result(self.model.invoke("hello"))
            except Exception as error:
                answer.set_exception(error)


def failing(worker):
    def ask(_):
        worker.ask()
        raise ValueError("no")

    return ask


@pytest.mark.parametrize(("made", "status"), [(lambda worker: worker.ask, "done"), (failing, "failed")])
def test_a_worker_belongs_to_no_run_that_came_to_its_end(made, status):
    """It is a part of the run in which it was begun, and as one from before of those that follow."""
    worker = Worker(HungryChat())
    guard = Guard(langgraph, one_node(made(worker)), policy(max_steps=1))
    first, second = guard.run(found=[]), guard.run(found=[])
    assert (first.status, first.usage.steps) == (status, 1)
    assert (second.status, second.usage.steps) == (status, 0)
    worker.ask()
    assert worker.model.served.calls == 3


def test_what_a_stopped_run_left_in_a_thread_is_refused():
    """It would go on spending, with nothing that bounds it."""
    worker = Worker(HungryChat())

    def ask_often(_):
        while True:
            worker.ask()

    result = Guard(langgraph, one_node(ask_often), policy(max_steps=2)).run(found=[])
    assert (result.status, result.usage.steps) == ("stopped", 2)
    with pytest.raises(RuntimeError, match="the run has ended"):
        worker.ask()
    assert worker.model.served.calls == 2
