"""What AutoGen's runtime logs of a guarded run: an ordinary stop is the result's to tell, and no traceback's."""

from __future__ import annotations

import asyncio
import logging

from autogen_core._queue import QueueShutDown

from crew_guard.adapters.autogen.seams import here
from crew_guard.errors import RefusedError

_ENDED = (RefusedError, asyncio.CancelledError, QueueShutDown)
_REFUSED = "refused by crew_guard"
"""How a refusal's text begins: a team within a team tells it in words only."""
_AFTERMATH = "GroupChatError"
"""A team's agents turn down the message that one of them has failed, each with a traceback of its own."""


class _Stops(logging.Filter):
    """Lets pass what is logged elsewhere, and errors that no refusal led to."""

    def filter(self, record: logging.LogRecord) -> bool:
        now = here.get()
        error = record.exc_info[1] if now is not None and record.exc_info else None
        if now is None or error is None:
            return True
        if isinstance(error, _ENDED) or _REFUSED in str(error):
            now.run.refused = True
            return False
        return not (now.run.refused and _AFTERMATH in str(error))


_STOPS = _Stops()


def tell_no_stops() -> None:
    """Have stops of guarded runs left out of AutoGen's log."""
    logging.getLogger("autogen_core").addFilter(_STOPS)
