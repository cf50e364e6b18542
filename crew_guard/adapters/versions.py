"""Which versions of its host an adapter was written against: others are refused by name, because seams move."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from crew_guard.errors import ConfigError, MissingDependencyError

_seen: set[Supported] = set()
"""Those that are installed as they should be: finding out takes milliseconds, and runs begin often."""


@dataclass(frozen=True, slots=True)
class Supported:
    """A package, and its versions that an adapter works with."""

    package: str
    least: tuple[int, ...]
    below: tuple[int, ...]
    extra: str
    """What installs it: crew-guard[EXTRA]."""

    def check(self, what: str) -> None:
        """Whether it is installed, in a version that works.

        Args:
            what: what needs it
        Raises:
            MissingDependencyError: it is not installed
            ConfigError: another version is
        """
        if not self.is_installed():
            raise MissingDependencyError(what, self.extra)

    def is_installed(self) -> bool:
        """Whether it is installed.

        Raises:
            ConfigError: in a version that is not supported
        """
        if self in _seen:
            return True
        try:
            installed = version(self.package)
        except PackageNotFoundError:
            return False
        numbers = tuple(int(part) for part in re.findall(r"\d+", installed)[:3])
        if not self.least <= numbers < self.below:
            works = f"{self.package}>={_text(self.least)},<{_text(self.below)}"
            raise ConfigError(
                f"{self.package} {installed} is installed; crew_guard works with {works}: pip install '{works}'"
            )
        _seen.add(self)
        return True


def _text(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
