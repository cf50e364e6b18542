"""`python -m crew_guard.cli`."""

from __future__ import annotations

from crew_guard.cli import main

if __name__ == "__main__":
    main()
