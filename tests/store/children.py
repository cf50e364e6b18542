"""Processes that use one journal together: run as `python -m tests.store.children WHAT PATH RUN`.

They say what they have done on stdout, a line each, and end when their stdin does.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections import deque

from crew_guard.errors import StoreError
from crew_guard.store.sqlite import SqliteStore
from crew_guard.testing.events import moved, started
from crew_guard.testing.track_record_contract import TERMS, report, trial


def say(*words):
    print(*words, flush=True)


def stop_at_end_of_input():
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    return stop


def append_for_ever(path, run):
    """Eight appends in flight; says the last number that is promised to be on disk."""
    store, flying, seq = SqliteStore(path), deque(), 1
    store.begin(run, started()).result()
    while True:
        seq += 1
        flying.append((seq, store.append(run, [moved(seq)])))
        if len(flying) == 8:
            done, future = flying.popleft()
            future.result()
            say(done)


def hog(path, run):
    """Commits one by one without a pause until told to stop; says how many so far."""
    store, stop, seq = SqliteStore(path), stop_at_end_of_input(), 1
    store.begin(run, started()).result()
    say("begun")
    while not stop.is_set():
        seq += 1
        store.append(run, [moved(seq)]).result()
        if seq % 25 == 0:
            say(seq)
    store.close()
    say("end", seq)


def hold(path, run):
    """Holds the write lock until told to stop."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    say(os.getpid())
    sys.stdin.read()


def leave(path, run):
    """Appends, waits for nothing, and comes to its end."""
    store = SqliteStore(path)
    store.begin(run, started())
    for seq in range(2, 1001):
        store.append(run, [moved(seq)])


def count_runs(path, run):
    """Adds forty reports as fast as it can, and asks for the probe; says whether it got it."""
    track = SqliteStore(path).track_record()
    say(track.begin_probe("brief", run, 2e12))
    sys.stdin.readline()
    for number in range(40):
        track.add(report(f"{run}-{number}", trial(), trial("critic", number % 2), outcome=1.0), TERMS)
        track.add(report(f"shared-{number}", trial()), TERMS)
    say("end")


def die_in_a_report(path, run):
    """Takes the probe, and is in the midst of writing a report when it is killed."""
    store = SqliteStore(path)
    track = store.track_record()
    track.begin_probe("brief", run, float(run.removeprefix("until-")))
    track.add(report("whole", trial()), TERMS)
    with track.writing() as rows:
        rows.insert_run(report("half", trial()))
        say("half")
        sys.stdin.read()


def fill_disk(path, run):
    """Lets the file grow no further, sees an append fail, then lets it grow again."""
    import resource

    store = SqliteStore(path)
    for each in (run, "other"):
        store.begin(each, started()).result()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    big = [moved(seq) for seq in range(2, 5000)]
    for batch in (big, [moved(5000)]):
        try:
            store.append(run, batch).result()
        except StoreError as error:
            say(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    store.append("other", [moved(2)]).result()
    try:
        store.append(run, [moved(5001)]).result()
    except StoreError as error:
        say(error)
    say([event.seq for event in store.read(run)], [event.seq for event in store.read("other")])


def no_room(path, run):
    """Makes a store where no file may have even one byte."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        SqliteStore(path)
    except StoreError as error:
        say(error)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
