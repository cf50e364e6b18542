"""Policies and their layers: a file, those that it extends, and the organisation's above them all.

A layer that extends another may only tighten it: every value that is looser, or can never take
effect, is an error. The organisation's layer tightens whatever it meets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from crew_guard.config.document import Document, Scalar
from crew_guard.config.files import as_error, is_file, locate, problems_of, read_document
from crew_guard.config.places import ORG_VARIABLE, SUFFIXES, as_path, is_path, org_ref, search_dirs, shipped_dir
from crew_guard.config.schema import build
from crew_guard.core.merging import LABEL
from crew_guard.core.policy import Policy
from crew_guard.core.tightening import Fault, faults, tightened, unprovable, words
from crew_guard.errors import ConfigError


class PolicyFile(Policy):
    """A policy as it is written in a file."""

    extends: Annotated[str | None, LABEL] = Field(default=None, min_length=1)
    """The policy above this one, which it may only tighten: a path from this file, or a name."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """One file of a chain, as far as it could be read."""

    file: Path
    document: Document
    policy: PolicyFile | None

    def source(self) -> Policy:
        """Its values alone, with their lines."""
        assert self.policy is not None  # noqa: S101 - asked only where every layer was built
        return self.policy.sourced({key: f"{self.file}:{line}" for key, line in self.document.lines.items()})


def load_policy(ref: str | Path) -> Policy:
    """The policy in a file, tightened by those that it extends; it knows the file and line of each value.

    Args:
        ref: a path (it holds a separator or ends in .yaml), or the name of a file in ./policies or
            among those that came with the package
    Raises:
        ConfigError: there is none, or it or one that it extends is wrong: one line for each thing that is
    """
    return _load(locate("policy", ref))


def org_policy() -> Policy | None:
    """The policy that CREW_GUARD_ORG_POLICY names, for every run here; None where the variable isn't set.

    A name is one of those that came with the package: a file in the working directory can't take its place.

    Raises:
        ConfigError: there is none, or it is wrong: then nothing may run
    """
    ref = org_ref()
    if ref is None:
        return None
    try:
        return _load(_org_file(ref))
    except ConfigError as error:
        told = ConfigError(f"{ORG_VARIABLE}: {error}\nNo run starts without the organisation's policy")
        told.problems = error.problems or (error,)
        raise told from None


def _org_file(ref: str) -> Path:
    if not ref.strip():
        raise ConfigError("is empty; expected a policy's file or name, or no such variable")
    file = as_path(ref) if is_path(ref) else _named(ref, (shipped_dir("policy"),), None)
    if file is None:
        raise ConfigError(
            f"there is no policy named {ref!r} among those that ship; give a file of your own by its path"
        )
    return file


def under_org(policy: Policy) -> Policy:
    """The policy as the organisation's tightens it; itself where there is none.

    Raises:
        ConfigError: there should be one, and it can't be read or is wrong; or no crew could prove what both ask for
    """
    above = org_policy()
    if above is None:
        return policy
    whole = tightened(above, policy)
    if problems := [_placed(policy, fault) for fault in unprovable(above, whole, policy)]:
        raise as_error(problems)
    return whole


def _placed(policy: Policy, fault: Fault) -> ConfigError:
    file, _, line = policy.sources.get(fault.key, "").rpartition(":")
    key = ".".join(str(part) for part in fault.key)
    text = f"{fault.message}, by {ORG_VARIABLE}"
    error = ConfigError(text, file=file or None, line=int(line) if line.isdigit() else None, key=key)
    error.value = words(fault.value)
    return error


def _load(file: Path) -> Policy:
    layers, problems = _chain(file)
    if not problems:
        found, problems = _together(layers)
        if found is not None and not problems:
            return found
    raise as_error(problems)


def _chain(file: Path) -> tuple[list[_Layer], list[ConfigError]]:
    """The layers from this file up to the one that extends nothing, and what is wrong with them so far."""
    layers: list[_Layer] = []
    problems: list[ConfigError] = []
    seen: list[Path] = []
    parent: Path | None = file
    while parent is not None:
        try:
            document = read_document(parent, "a policy")
        except ConfigError as error:
            return layers, [*problems, error if not layers else _missing(layers[-1], parent, error)]
        seen.append(parent.resolve())
        built = build(document, PolicyFile, {"name": Scalar(parent.stem, "text")})
        problems += problems_of(parent, document)
        if built is not None:
            _place_rules(parent, document, built)
        layers.append(_Layer(parent, document, built))
        try:
            parent = _parent(layers[-1])
        except ConfigError as error:
            return layers, [*problems, error]
        if parent is not None and is_file(parent) and parent.resolve() in seen:
            names = " → ".join(str(layer.file) for layer in layers)
            text = f"{parent} extends this file in turn: {names} → {parent}; take one of these lines away"
            return layers, [*problems, _at_extends(layers[-1], text)]
    return layers, problems


def _place_rules(file: Path, document: Document, policy: Policy) -> None:
    for tool, rules in policy.tools.rules.items():
        for place, rule in enumerate(rules):
            rule.placed(f"{file}:{document.line(('tools', 'rules', tool, place))}")


def _parent(layer: _Layer) -> Path | None:
    tree = layer.document.tree
    wanted = tree.get("extends") if isinstance(tree, dict) else None
    if not isinstance(wanted, Scalar) or wanted.kind != "text" or not wanted.text:
        return None
    if is_path(wanted.text):
        return layer.file.parent / as_path(wanted.text)
    found = _named(wanted.text, search_dirs("policy"), layer.file)
    if found is None:
        beside = next((name for end in SUFFIXES if is_file(layer.file.parent / (name := wanted.text + end))), None)
        hint = f"write {beside} for the file beside this one" if beside else "expected a path from this file, or a name"
        raise _at_extends(layer, f"there is no policy named {wanted.text!r}; {hint}")
    return found


def _named(name: str, folders: Sequence[Path], not_this: Path | None) -> Path | None:
    """The policy of this name; a file that extends its own name means the next one of that name."""
    for folder in folders:
        for suffix in SUFFIXES:
            file = folder / f"{name}{suffix}"
            if is_file(file) and (not_this is None or file.resolve() != not_this.resolve()):
                return file
    return None


def _missing(layer: _Layer, parent: Path, error: ConfigError) -> ConfigError:
    if is_file(parent):
        return error
    named = _named(parent.stem, search_dirs("policy"), layer.file)
    hint = f"; write {parent.stem} for {named}" if named else ""
    return _at_extends(layer, f"{parent}: {error.message}{hint}")


def _at_extends(layer: _Layer, message: str) -> ConfigError:
    error = ConfigError(message, file=layer.file, line=layer.document.line(("extends",)), key="extends")
    error.value = layer.document.shown(("extends",))
    return error


def _together(layers: Sequence[_Layer]) -> tuple[Policy | None, list[ConfigError]]:
    """What the layers make, the outermost last in the list; and what is wrong with each below those above it."""
    found: Policy | None = None
    problems: list[ConfigError] = []
    for layer in reversed(layers):
        own = layer.source()
        wrong = [(layer.document.line(fault.key), fault) for fault in faults(found, own)]
        for line, fault in sorted(wrong, key=lambda one: one[0]):
            key = ".".join(str(part) for part in fault.key)
            problems.append(ConfigError(fault.message, file=layer.file, line=line, key=key))
            problems[-1].value = layer.document.shown(fault.key)
        found = _bare(own) if found is None else tightened(found, own)
    return found, problems


def _bare(own: Policy) -> Policy:
    """The same values as a Policy, without what only a file says."""
    said = own.model_fields_set & Policy.model_fields.keys()
    return Policy.model_construct(_fields_set=said, **{name: getattr(own, name) for name in said}).sourced(own.sources)
