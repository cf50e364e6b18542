"""Which versions of LlamaIndex the adapter was written against. Others are refused by name: seams move."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from crew_guard.errors import ConfigError, MissingDependencyError

_WORKFLOWS = ("llama-index-workflows", (2, 26), (3,))
_CORE = ("llama-index-core", (0, 14), (0, 15))


def check_workflows(what: str) -> None:
    """Whether LlamaIndex Workflows is installed, in a version that works.

    Args:
        what: what needs it
    Raises:
        MissingDependencyError, ConfigError
    """
    if not _works(*_WORKFLOWS):
        raise MissingDependencyError(what, "llama-index")


def check_core(what: str) -> None:
    """The same for llama-index-core."""
    if not has_core():
        raise MissingDependencyError(what, "llama-index")


def has_core() -> bool:
    """Whether llama-index-core is installed: workflows work without it.

    Raises:
        ConfigError: in a version that is not supported
    """
    return _works(*_CORE)


def _works(package: str, least: tuple[int, ...], below: tuple[int, ...]) -> bool:
    try:
        installed = version(package)
    except PackageNotFoundError:
        return False
    numbers = tuple(int(part) for part in re.findall(r"\d+", installed)[:3])
    if not least <= numbers < below:
        span = f">={'.'.join(map(str, least))},<{'.'.join(map(str, below))}"
        known = f"{package}{span}"
        raise ConfigError(f"{package} {installed} is installed; crew_guard works with {known}: pip install '{known}'")
    return True
