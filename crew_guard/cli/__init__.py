"""The command line: words and exit codes, and nothing that a program could not do through the API.

Exit codes: 0 done, 2 wrong usage, 3 stopped by a limit, 4 denied by a policy, 5 failed, 130 interrupted,
143 terminated.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code.

    Args:
        arguments: those of the process by default
    """
    from crew_guard.cli.app import run_app
    from crew_guard.cli.streams import whole_streams

    whole_streams()
    sys.exit(run_app(sys.argv[1:] if arguments is None else list(arguments)))
