"""Which versions of LangGraph and LangChain the patch is written for: a seam that moved would gate nothing."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from crew_guard.errors import ConfigError

WORKS = {"langgraph": ((1, 2), (2,)), "langchain-core": ((1, 7), (2,))}
"""By package: the first version that works, and the first that may not."""


def check_versions() -> None:
    """Whether what is installed is known to work.

    Raises:
        ConfigError: a package is too old or too new
        ModuleNotFoundError: a package is not there
    """
    for package, (first, end) in WORKS.items():
        try:
            installed = version(package)
        except PackageNotFoundError:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package) from None
        if not first <= _numbers(installed) < end:
            known = f"{package}>={_text(first)},<{_text(end)}"
            raise ConfigError(
                f"{package} {installed} is installed; crew_guard works with {known}: pip install '{known}'"
            )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
