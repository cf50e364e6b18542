"""AutoGen's own recorded sessions, under the guard."""

import pytest

from tests.benchmarks import autogen_sessions


@pytest.mark.parametrize("replay", [autogen_sessions.turns, autogen_sessions.team])
@pytest.mark.parametrize("session", autogen_sessions.SESSIONS)
def test_recorded_sessions_replay_with_the_same_outputs_and_tokens(session, replay):
    """Each request as recorded, each answer as recorded, and the ledger's tokens are the record's."""
    if not autogen_sessions.FOLDER.exists():
        pytest.skip(f"recorded sessions are not at {autogen_sessions.DATA}: set CREW_GUARD_DATA")
    calls = autogen_sessions.recorded(session)
    tally = replay(calls)
    assert tally.problems == []
    assert tally.requests == tally.outputs == tally.calls == len(calls)
    assert tally.charged == tally.recorded
