"""What `import crew_guard` costs beside `import pydantic, loguru`: CPU seconds of whole processes, in pairs."""

import resource
import statistics
import subprocess
import sys

PAIRS = 9
CEILING = 1.5


def cpu_seconds(code: str) -> float:
    """User and system time of one interpreter that runs this code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure() -> tuple[float, float, float]:
    """(median of ours, median of theirs, median of the ratios pair by pair)."""
    cpu_seconds("import crew_guard")
    pairs = [(cpu_seconds("import crew_guard"), cpu_seconds("import pydantic, loguru")) for _ in range(PAIRS)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    return ours, theirs, statistics.median(a / b for a, b in pairs)


def main() -> None:
    """Print the table."""
    ours, theirs, ratio = measure()
    print(f"{'import':<24}{'CPU s':>8}")
    print(f"{'crew_guard':<24}{ours:>8.3f}\n{'pydantic, loguru':<24}{theirs:>8.3f}")
    print(f"ratio {ratio:.2f} (ceiling {CEILING}): {'ok' if ratio <= CEILING else 'ABOVE'}")


if __name__ == "__main__":
    main()
