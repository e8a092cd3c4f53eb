"""The study that audits one method against others: a profile, which holds all but the method, and the method."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evalsuite import registry
from evalsuite.errors import RequestError, unknown_name
from evalsuite.hashing import digest
from evalsuite.optional_members import is_calibrated
from evalsuite.registry import Setting, configure, option_names
from evalsuite.study.file import PRIVATE, find, key_and_value, parse, read_raw
from evalsuite.study.settings import Study
from evalsuite.study.trials import CALIBRATION_ORDER
from evalsuite.study.trust import Trust

PROFILES = ("quick", "standard", "full")
AFFORDABLE = {"iterations": 500, "learning_rate": 0.01}
"""What a rival that iterates, and that the profile does not have, gets of these options: an audit takes minutes."""
_TARGET = "target"


@dataclass(frozen=True)
class AuditRequest:
    """What is asked of an audit.

    Attributes
    ----------
    target : the method, with its options.
    title : how the command names it.
    profile : ``quick``, ``standard``, ``full``, another registered study, or a TOML file.
    tasks : in place of the profile's.
    task_options : of these tasks, each given to those that have it.
    against : rivals in place of the profile's; those that it has keep their options.
    bits : in place of the profile's.
    rival_options : by name of a rival.
    overrides : ``KEY=VALUE`` of the profile, as for :func:`evalsuite.study.file.read`.
    is_network : whether the target is a network that comes quantized, which calibration sets do not change.
    trust : whether the profile may name Python files that do not lie beside it.
    """

    target: Setting
    title: str
    profile: str = PROFILES[0]
    tasks: tuple[str, ...] = ()
    task_options: Mapping[str, Any] = field(default_factory=dict)
    against: tuple[str, ...] = ()
    bits: tuple[str, ...] = ()
    rival_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    is_network: bool = False
    trust: bool = False

    @property
    def name(self) -> str:
        """Name of the run's folder: the target's file and name, tasks, and a hash of whatever else is asked for."""
        file, _, attribute = self.title.rpartition(":")
        path = Path(file)
        if path.is_absolute() and path.is_relative_to(Path.cwd()):
            file = str(path.relative_to(Path.cwd()))
        where = f"{file.removesuffix('.py')}-{attribute}" if file else attribute
        words = "-".join(map(_slug, [where, *self.tasks, *([self.profile] if self.profile != PROFILES[0] else [])]))
        method, rivals = self.target.name, {name: dict(options) for name, options in self.rival_options.items()}
        needed = registry.required_options(self.target.kind, method)
        chosen = self.target if needed or self.target != configure(self.target.kind, method) else None
        asked = [chosen and chosen.options, dict(self.task_options), self.against, self.bits, rivals, self.overrides]
        return f"audit-{words[:70]}" + (f"-{digest(asked)[:6]}" if any(asked) else "")


def audit_study(request: AuditRequest, trust: Trust | None = None) -> Study:
    """Return the study of an audit: the profile with the target at every bit width.

    ``trust``: of the profile's Python files; by default what the request says.

    Raises
    ------
    RequestError
        For a profile, task, rival or option that is unknown or impossible, or a target that has no rival.
    """
    path = find(f"audit_{request.profile}" if request.profile in PROFILES else _other(request.profile))
    raw = read_raw(path, request.overrides, trust or Trust(request.trust))
    if request.tasks:
        raw.pop("task", None)
        raw["tasks"] = list(request.tasks)
    if request.task_options:
        raw["task"] = _with_options(raw, request.task_options)
        raw.pop("tasks", None)
    tables = raw.get("quantizer", [])
    bits = list(request.bits) or list(dict.fromkeys(width for table in tables for width in _bits(table)))
    rivals = _rivals(request, tables)
    for table in rivals:
        table["bits"] = bits
    if not rivals:
        raise RequestError(f"nothing to compare {request.title!r} with: name other quantizers by --against")
    if not bits:
        raise RequestError(f"{path} names no bits: expected some, or --bits")
    target = {"method": request.target.name, **request.target.values(), "bits": bits}
    raw["quantizer"] = [*(table for table in tables if not _is_rival(table)), target, *rivals]
    raw["exclude"] = [table for table in raw.get("exclude", []) if _applies(table, bits)]
    raw |= {"name": request.name, "title": f"Audit of {request.title}", "description": _description(request, rivals)}
    if not request.is_network:
        return parse(raw, f"the audit's study ({path})")
    raw["exclude"] = [table for table in raw["exclude"] if CALIBRATION_ORDER not in table]
    study = parse(raw, f"the audit's study ({path})")
    return replace(study, calibrations=study.calibrations[:1])


def _other(profile: str) -> str:
    """Return the name of a study that is no profile. Raises RequestError if it is none either."""
    studies = registry.names("studies")
    if not profile.endswith(".toml") and profile not in studies and not Path(profile).is_dir():
        own = {*PROFILES, *(f"audit_{each}" for each in PROFILES)}
        raise unknown_name("profile", profile, [*PROFILES, *(name for name in studies if name not in own)])
    return profile


def options_of(texts: Sequence[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the target's options, and those of rivals by name, from ``target.NAME=VALUE`` and ``RIVAL.NAME=VALUE``.

    Raises RequestError for a text of another form.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        key, value = key_and_value(text, "--option", "target.strength=0.7")
        method, dot, option = key.rpartition(".")
        if not (dot and method and option):
            raise RequestError(f"--option {text!r}: expected target.{key}=..., or a rival's name in place of target")
        found.setdefault(method, {})[option] = value
    return found.pop(_TARGET, {}), found


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "-", text.replace(".py:", "-")).strip("-")


def _with_options(raw: Mapping[str, Any], options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a profile's tables of tasks with further options; each must be known to one of them at least."""
    tables = [*({"name": name} for name in raw.get("tasks", [])), *raw.get("task", [])]
    known = {id(table): [*option_names("tasks", table["name"]), PRIVATE] for table in tables}
    for option, value in options.items():
        fitting = [table for table in tables if option in known[id(table)]]
        if not fitting:
            names = ", ".join(table["name"] for table in tables)
            raise RequestError(f"--task-option {option}: no option of {names}, which takes {_listed(known.values())}")
        for table in fitting:
            table[option] = value
    return tables


def _listed(known: Any) -> str:
    return ", ".join(sorted({name for names in known for name in names})) or "none"


def _bits(table: Mapping[str, Any]) -> list[str]:
    given = table.get("bits", [])
    return [str(width) for width in given] if isinstance(given, list) else [str(given)]


def _is_rival(table: Mapping[str, Any]) -> bool:
    return any(is_calibrated(registry.load("quantizers", name)) for name in _methods(table))


def _methods(table: Mapping[str, Any]) -> list[str]:
    given = table.get("method", [])
    return [str(name) for name in given] if isinstance(given, list) else [str(given)]


def _rivals(request: AuditRequest, tables: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a table per rival, without the target itself."""
    given = list(_split(tables))
    if request.against:
        named = []
        for name in request.against:
            known = [table for table in given if table["method"] == name]
            named += known or [{"method": name, **_affordable(name)}]
        given = named
    else:
        given = [table for table in given if table["method"] != request.target.name]
    unused = set(request.rival_options) - {table["method"] for table in given}
    if unused:
        names = ", ".join(["target", *dict.fromkeys(table["method"] for table in given)])
        raise RequestError(f"--option {min(unused)}.…: no such method in this audit; expected one of {names}")
    found = []
    for table in given:
        whole = table | dict(request.rival_options.get(table["method"], {}))
        options = {key: value for key, value in whole.items() if key in option_names("quantizers", whole["method"])}
        if any(isinstance(value, list) for value in options.values()) or not _same(request.target, whole, options):
            found.append(whole)
    return found


def _same(target: Setting, table: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
    return configure("quantizers", table["method"], options) == target


def _split(tables: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for table in tables:
        if _is_rival(table):
            yield from ({**table, "method": name} for name in _methods(table))


def _affordable(name: str) -> dict[str, Any]:
    known = option_names("quantizers", name)
    return {key: value for key, value in AFFORDABLE.items() if "iterations" in known and key in known}


def _applies(table: Mapping[str, Any], bits: Sequence[str]) -> bool:
    """Whether a filter can match: those of bit widths that the audit does not have are left out."""
    named = _bits(table)
    return not named or bool({*named} & {*bits, "FP32"})


def _description(request: AuditRequest, rivals: Sequence[Mapping[str, Any]]) -> str:
    names = ", ".join(dict.fromkeys(str(table["method"]) for table in rivals))
    text = f"{request.title} against {names}: is it better, where does it break, is the difference real?"
    affordable = [_affordable(str(table["method"])) for table in rivals]
    if any(given and given.items() <= table.items() for given, table in zip(affordable, rivals, strict=True)):
        iterations, rate = AFFORDABLE["iterations"], AFFORDABLE["learning_rate"]
        text += f" Rivals that iterate get {iterations} iterations at a learning rate of {rate}."
    return text
