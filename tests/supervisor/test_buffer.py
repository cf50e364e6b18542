"""The buffer of a stream: bounded whatever is put into it, and exact about what it let go of."""

from hypothesis import given
from hypothesis import strategies as st

from crew_guard.core.events import AgentMoved, Settled
from crew_guard.core.limits import UNCAPPED
from crew_guard.core.stream import Budget, Missed, StreamItem, TextDelta
from crew_guard.core.usage import NOTHING
from crew_guard.supervisor.buffer import Buffer, Gap


def delta(action: str, text: str) -> TextDelta:
    return TextDelta("ann", "task", action, 1, text)


class Reader:
    """Takes items out, and keeps book."""

    def __init__(self, buffer: Buffer) -> None:
        self.buffer, self.numbers, self.news, self.counted = buffer, list[int](), 0, 0
        self.texts = {"a": "", "b": ""}

    def take(self) -> bool:
        item: StreamItem | Gap | None = self.buffer.take()
        if isinstance(item, Gap):
            self.numbers.extend(range(item.first, item.last + 1))
        elif isinstance(item, Missed):
            self.counted += item.count
        elif isinstance(item, TextDelta):
            self.texts[item.action_id] += item.text
            self.news += 1
        elif isinstance(item, Budget):
            self.news += 1
        elif item is not None:
            self.numbers.append(item.seq)
        return item is not None


KINDS = st.lists(st.sampled_from(["moved", "settled", "long", "budget", "a", "b", "take"]), max_size=200)


def item_of(kind: str, place: int, seq: int, chars: int) -> StreamItem:
    if kind in ("a", "b"):
        return delta(kind, f"{place},")
    if kind == "budget":
        return Budget(NOTHING, UNCAPPED, 0.0)
    if kind == "moved":
        return AgentMoved(seq, 0.0, "ann", "task", "act")
    return Settled(seq, 0.0, "a1", "ok", NOTHING, 0.0, text="x" * (chars + 1 if kind == "long" else 5))


@given(KINDS, st.integers(4, 20), st.integers(20, 200))
def test_nothing_is_lost_untold_and_nothing_is_out_of_order(kinds: list[str], most: int, chars: int) -> None:
    """Whatever comes and is taken in between: events or their gaps in order, the rest said or counted."""
    buffer, put = Buffer(most, chars), list[StreamItem]()
    reader = Reader(buffer)
    for place, kind in enumerate(kinds):
        if kind == "take":
            reader.take()
            continue
        seq = 1 + sum(not isinstance(item, TextDelta | Budget) for item in put)
        put.append(item_of(kind, place, seq, chars))
        buffer.put(put[-1])
        assert len(buffer._items) <= most
        assert buffer._chars <= chars or len(buffer._items) == 1
    while reader.take():
        pass
    news = [item for item in put if isinstance(item, TextDelta | Budget)]
    assert reader.numbers == list(range(1, len(put) - len(news) + 1))
    assert reader.news + reader.counted <= len(news)
    for action, said in reader.texts.items():
        whole = "".join(item.text for item in news if isinstance(item, TextDelta) and item.action_id == action)
        pieces = iter(whole.split(","))
        assert said == whole or reader.counted
        assert all(piece in pieces for piece in said.split(",") if piece)


def test_pieces_are_joined_before_any_is_dropped() -> None:
    """Two agents write a thousand words at once between two events: two long pieces are left."""
    buffer = Buffer(100, 100_000)
    buffer.put(AgentMoved(1, 0.0, "ann", "task", "think"))
    for i in range(1_000):
        buffer.put(delta("ab"[i % 2], f"{i} "))
    buffer.put(AgentMoved(2, 0.0, "ann", "task", "finish"))
    items = []
    while (item := buffer.take()) is not None:
        items.append(item)
    assert not any(isinstance(item, Missed) for item in items)
    said = {action: "".join(item.text for item in items if getattr(item, "action_id", "") == action) for action in "ab"}
    assert said == {action: "".join(f"{i} " for i in range(start, 1_000, 2)) for start, action in enumerate("ab")}
