"""Why a run has nothing in the track record, as its journal has it; what the journal doesn't prove is not claimed."""

from __future__ import annotations

from collections.abc import Iterable

from crew_guard.core.decisions import Stop
from crew_guard.core.events import Event, Routed
from crew_guard.core.run import RunState
from crew_guard.core.tried import counts_at_all
from crew_guard.core.usage import Usage
from crew_guard.errors import StoreError
from crew_guard.observers.words import Teller, clean, stop_words


def unreported(run_id: str, events: Iterable[Event], place: str) -> StoreError:
    """The error where somebody asks for the record of a run that added nothing to it.

    Args:
        events: the run's journal
        place: the store, for the message
    """
    teller, routed = Teller(), False
    try:
        for event in events:
            teller.tell(event)
            routed = routed or isinstance(event, Routed)
    except (StoreError, KeyError, ValueError):
        why = "its journal can't be read to its end, so why is unknown"
    else:
        why = why_unreported(teller, routed=routed)
    look = f"see crew-guard runs show {clean(run_id, 80)}, with the same --store"
    return StoreError(f"run {run_id!r} added nothing to the track record in {place}: {why}; {look}")


def why_unreported(teller: Teller, *, routed: bool) -> str:
    """The reason in words.

    Args:
        teller: which has folded the run's journal
        routed: whether reliability decided where the run went
    """
    ended = teller.state.ended
    if ended is None:
        return "it is still under way, or its process died before it ended"
    stop, used = _first_stop(teller.state)
    if stop is not None and not counts_at_all(stop, used):
        return f"what ended it is no trial of anyone ({stop_words(stop)})"
    if teller.state.verdicts:
        return (
            "its verdicts are in its journal and did not reach the record, which could not be written when it ended, "
            "or was not kept for such runs by the crew_guard that ran it"
        )
    if routed:
        return f"it ended before the record was written{f': {clean(ended.error, 200)}' if ended.error else ''}"
    return (
        "nothing of it was judged, and a run counts where a task, a node or the whole has a verifier or an output "
        "schema, or its policy a reliability section"
    )


def _first_stop(state: RunState) -> tuple[Stop | None, Usage]:
    """(what stopped the crew, or the workflow where no crew was at work, what that had used)."""
    fell_back, ended = state.fell_back, state.ended
    if fell_back is not None and fell_back.stop is not None:
        return fell_back.stop, state.used("crew")
    alone = fell_back is not None or (state.started is not None and state.started.side == "fallback")
    return ended.stop if ended else None, state.used("fallback" if alone else "crew")
