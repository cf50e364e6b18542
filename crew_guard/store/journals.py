"""What every store says of a journal: the rules of its numbers, and the words for breaking them."""

from __future__ import annotations

from collections.abc import Sequence

from crew_guard.errors import JournalConflictError, StoreError

LOOK = "`crew-guard runs list`, with the same --store, shows those there are"


def already_begun(run_id: str, place: str) -> JournalConflictError:
    """The error for a run that exists where it should be created."""
    return JournalConflictError(f"run {run_id!r} exists in {place} already: give the new run another id")


def out_of_order(run_id: str, seq: int, last: int, place: str) -> JournalConflictError:
    """The error for an event whose number is not above that of the last one."""
    return JournalConflictError(
        f"event {seq} of run {run_id!r} can't follow event {last} in {place}: another supervisor writes this run; "
        "let one of them end"
    )


def number_taken(run_id: str, place: str) -> JournalConflictError:
    """The error for an event whose number another process has used."""
    return JournalConflictError(
        f"another process writes run {run_id!r} in {place} and has used an event's number; let one of them end"
    )


def never_begun(run_id: str, place: str) -> StoreError:
    """The error for an append to a run that nobody created."""
    return StoreError(f"no run {run_id!r} in {place}: begin it before anything is appended")


def after_failure(run_id: str, cause: StoreError) -> StoreError:
    """The error for whatever follows a failed append: a journal has no holes. It has its cause's type."""
    return type(cause)(f"run {run_id!r} takes no more events, because an earlier one could not be written: {cause}")


def one_of(found: Sequence[str], prefix: str, place: str) -> str:
    """The one id that a prefix means: an exact match, or the only one.

    Args:
        found: sorted ids that start with the prefix, at least five of them where there are more
    Raises:
        StoreError: there is none, or there are several
    """
    if prefix in found or len(found) == 1:
        return prefix if prefix in found else found[0]
    if not found:
        raise StoreError(f"no run in {place} starts with {prefix!r}; {LOOK}")
    shown = ", ".join(found[:4]) + (", …" if len(found) > 4 else "")  # noqa: PLR2004 - four ids fit a line
    raise StoreError(f"several runs in {place} start with {prefix!r}: {shown}; give more of the id")


def storable(text: str) -> str:
    """Text that can be written as UTF-8: lone surrogates become question marks."""
    return text.encode(errors="replace").decode()
