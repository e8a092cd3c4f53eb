"""Studies: a TOML file whose lists are grids, checked strictly and turned into immutable settings."""

from __future__ import annotations

import itertools
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from evalsuite import registry
from evalsuite.bits import BITS_FIELDS, BitPolicy, bits_fields
from evalsuite.engines import check_engine
from evalsuite.errors import RequestError, unknown_name
from evalsuite.hashing import canonical_json
from evalsuite.optional_members import SIMULATED, is_calibrated
from evalsuite.registry import Setting, configure
from evalsuite.study.report import Report
from evalsuite.study.settings import Calibration, Quantized, Study
from evalsuite.study.tables import Analysis, Corruption, Diagnosis, Gate
from evalsuite.study.trials import CALIBRATION_ORDER, narrowed
from evalsuite.study.trust import Trust
from evalsuite.study.values import MOST_TRIALS, check_count, check_name, check_values, read_toml

TABLES = {"task": "name", "calibration": "protocol", "quantizer": "method", "adapter": "method", "stream": "protocol"}
"""The tables of plugins, and the key of each by which it names them."""
PRIVATE = "private"
"""Key of a table ``[[task]]``, no option of its plugin: no pixel of its images goes into what a run keeps."""
FIELDS: dict[str, Any] = {
    "name": str,
    "title": str,
    "description": str,
    "tasks": list[str],
    "seeds": list[int],
    "source_images": int,
    "max_trials": int,
    "corruption": dict[str, Any],
    "analysis": dict[str, Any],
    "gate": dict[str, Any],
    "report": dict[str, Any],
    "diagnosis": dict[str, Any],
    "exclude": list[dict[str, Any]],
} | dict.fromkeys(TABLES, list[dict[str, Any]])
"""The keys of a study, and what each may be."""
_REQUIRED = ("name", "task", "calibration", "quantizer", "adapter", "stream")


def find(name: str | Path) -> Path:
    """Return the study file for a registered name or a path. Raises RequestError if there is neither."""
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise RequestError(f"no study file {path}: expected a TOML file, or a name (evalsuite list studies)")
        return path
    if path.is_dir() and str(name) not in registry.names("studies"):
        raise RequestError(f"{path} is a folder: expected a TOML file, or a name (evalsuite list studies)")
    return Path(registry.load("studies", str(name)))


def read(name: str | Path, overrides: Iterable[str] = (), trust: Trust | None = None) -> Study:
    """Read and check a study.

    Parameters
    ----------
    name : a registered study or the path of a TOML file.
    overrides : ``KEY=VALUE`` strings; KEY is a key of the study or ``table.option``, VALUE is TOML (a bare
        word is a string). ``table.option`` applies to every entry of the table that has the option. What
        ``[[exclude]]`` says of values that they take away is left out.
    trust : what Python files the study may name; by default those beside it.

    Raises
    ------
    RequestError
        For a file that is not TOML, code that is not trusted, an unknown key (the nearest known one is named) or an
        impossible value.
    """
    path = find(name)
    given = list(overrides)
    study = parse(read_raw(path, given, trust), f"{path} with --set" if given else str(path))
    if not given or not study.exclude:
        return study
    try:
        before = parse(read_raw(path, [], trust), str(path))
    except RequestError:  # a file that the overrides make a study has nothing that they take away
        return study
    return narrowed(study, before)


def read_raw(path: Path, overrides: Iterable[str] = (), trust: Trust | None = None) -> dict[str, Any]:
    """Read a study file's plain values, overrides applied, without a check of what they mean; see :func:`read`."""
    raw = read_toml(path)
    check_values(raw, str(path))
    (trust or Trust()).check(path, raw, ("tasks", *TABLES))  # before an override looks up what a plugin's options are
    for override in overrides:
        _override(raw, override)
    return raw


def parse(raw: Mapping[str, Any], where: str = "study") -> Study:
    """Check a study given as plain values; see :func:`read`."""
    check_values(raw, where)
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in FIELDS:
            raise unknown_name(f"key in {where}", key, FIELDS)
        values[key] = _typed(key, value, where)
    values["task"] = _tasks(values)
    for key in _REQUIRED:
        if not values.get(key):
            missing = "tasks" if key == "task" else key
            raise RequestError(f"{where} has no {missing!r}: expected one of each of {', '.join(_REQUIRED)}")
    check_name(values["name"], where)
    seeds = values.get("seeds", [0])
    if not seeds or not 0 <= min(seeds) <= max(seeds) < 2**63 or len(set(seeds)) < len(seeds):
        raise RequestError(f"{where}, seeds = {seeds}: expected different whole numbers from 0, below 2^63")
    check_count(_axes(values, where), values.get("max_trials", MOST_TRIALS), where)
    if values.get("source_images", 1) < 1:
        raise RequestError(f"{where}, source_images = {values['source_images']}: expected at least 1")
    if values.get("diagnosis") == {}:
        raise RequestError(f"{where}, [diagnosis] is empty: expected how many images of a domain, such as images = 16")
    quantizers = [q for table in values["quantizer"] for q in _quantizers(table, where)]
    study = Study(
        name=values["name"],
        title=values.get("title") or values["name"],
        description=values.get("description", "").strip(),
        tasks=tuple(dict.fromkeys(s for t in values["task"] for s in _settings("task", t, where))),
        seeds=tuple(seeds),
        calibrations=tuple(dict.fromkeys(c for table in values["calibration"] for c in _calibrations(table, where))),
        quantizers=tuple(dict.fromkeys(quantizers)),
        adapters=tuple(dict.fromkeys(s for t in values["adapter"] for s in _settings("adapter", t, where))),
        streams=tuple(dict.fromkeys(s for t in values["stream"] for s in _settings("stream", t, where))),
        exclude=tuple(canonical_json(f) for f in values.get("exclude", [])),
        source_images=values.get("source_images", 256),
        corruption=_table("corruption", Corruption, values.get("corruption", {}), where),
        analysis=_table("analysis", Analysis, values.get("analysis", {}), where),
        gate=_table("gate", Gate, values.get("gate", {}), where),
        report=_table("report", Report, values.get("report", {}), where),
        diagnosis=_table("diagnosis", Diagnosis, values.get("diagnosis", {}), where),
        private=frozenset(s for t in values["task"] if _is_private(t, where) for s in _settings("task", t, where)),
    )
    for given in values.get("exclude", []):
        _check_filter(given, study, where)
    return study


def _tasks(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tables of tasks: ``tasks`` is short for tables that have a name and no options."""
    return [*({"name": name} for name in values.get("tasks", [])), *values.get("task", [])]


def _is_private(table: Mapping[str, Any], where: str) -> bool:
    said = table.get(PRIVATE, False)
    if not isinstance(said, bool):
        raise RequestError(f"[[task]] in {where}, {PRIVATE} = {said!r}: expected true or false")
    return said


def _typed(key: str, value: Any, where: str) -> Any:
    """Return a key's value if it is of the key's type."""
    try:
        return TypeAdapter(FIELDS[key]).validate_python(value, strict=True)
    except ValidationError as error:
        raise registry.validation_error(f"{where}, {key}", error) from error


T = TypeVar("T")


def _table(name: str, cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Return the dataclass that a table of single values describes."""
    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise unknown_name(f"key in [{name}] of {where}", key, known)
    try:
        return TypeAdapter(cls).validate_json(canonical_json(values), strict=True)
    except ValidationError as error:
        raise registry.validation_error(f"[{name}] of {where}", error) from error


def _check_filter(values: Mapping[str, Any], study: Study, where: str) -> None:
    known = ["task", "seed", "bits", "engine", "calibration", CALIBRATION_ORDER, "quantizer", "adapter", "stream"]
    settings = {
        "task": study.tasks,
        "quantizer": tuple(quantizer.method for quantizer in study.quantizers),
        "adapter": study.adapters,
        "stream": study.streams,
    }
    known += sorted({f"{table}.{option}" for table, own in settings.items() for s in own for option in s.values()})
    for key, value in values.items():
        if key not in known:
            raise unknown_name(f"key in [[exclude]] of {where}", key, known)
        if not all(isinstance(part, str | int | float) for part in (value if isinstance(value, list) else [value])):
            raise RequestError(f"[[exclude]] of {where}, {key} = {value!r}: expected text, a number or a list of them")
    if not values:
        raise RequestError(f"[[exclude]] of {where} is empty: expected at least one setting")


def _axes(values: Mapping[str, Any], where: str) -> dict[str, int]:
    """Return how many settings each part of a study has, counted without making one."""
    counts = {
        name: sum(_combinations(name, table, where) for table in values[name])
        for name in ("task", "quantizer", "adapter", "stream")
    }
    steps = [_steps(table, where) for table in values["calibration"]]
    counts["calibration"] = sum(math.prod(_combinations("calibration", s, where) for s in own) for own in steps)
    return counts | {"seed": len(values.get("seeds", [0]))}


def _combinations(table_name: str, table: Mapping[str, Any], where: str) -> int:
    names, options = _names(table_name, table, where)
    return sum(
        math.prod(len(axis) for axis in _grid_axes(options, registry.list_options(_kind(table_name), name)))
        for name in names
    )


def _kind(table: str) -> registry.Kind:
    kinds: dict[str, registry.Kind] = {"task": "tasks", "quantizer": "quantizers", "adapter": "adapters"}
    return kinds.get(table, "protocols")


def _grid(table: Mapping[str, Any], whole: Iterable[str] = ()) -> Iterable[dict[str, Any]]:
    """Yield every combination of a table's lists; a list of an option in ``whole`` is one value."""
    return (dict(pairs) for pairs in itertools.product(*_grid_axes(table, whole)))


def _grid_axes(table: Mapping[str, Any], whole: Iterable[str]) -> list[list[tuple[str, Any]]]:
    kept = set(whole)
    axes = []
    for key, value in table.items():
        expand = isinstance(value, list) and (key not in kept or any(isinstance(part, list) for part in value))
        if isinstance(value, list) and not value:
            raise RequestError(f"{key} = []: expected at least one value")
        axes.append([(key, part) for part in value] if expand else [(key, value)])
    return axes


def _named(table_name: str, table: Mapping[str, Any], where: str) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield (plugin, options) for every combination of a table."""
    names, options = _names(table_name, table, where)
    for name in names:
        for chosen in _grid(options, registry.list_options(_kind(table_name), name)):
            yield name, chosen


def _names(table_name: str, table: Mapping[str, Any], where: str) -> tuple[list[str], dict[str, Any]]:
    """Return the plugins that a table names, and its options."""
    key = TABLES[table_name]
    given = table.get(key)
    if given is None:
        raise RequestError(f"[[{table_name}]] in {where} has no {key!r}: it has {', '.join(table) or 'nothing'}")
    names = given if isinstance(given, list) else [given]
    if not names or not all(isinstance(name, str) for name in names):
        raise RequestError(f"[[{table_name}]] in {where}, {key} = {given!r}: expected a name or a list of names")
    ours = (key, PRIVATE) if table_name == "task" else (key,)
    return names, {k: v for k, v in table.items() if k not in ours}


def _settings(table_name: str, table: Mapping[str, Any], where: str) -> Iterable[Setting]:
    for name, options in _named(table_name, table, where):
        setting = configure(_kind(table_name), name, options)
        if table_name in ("stream", "calibration"):
            registry.check_role(name, table_name, f"[[{table_name}]] in {where}")
        yield setting


def _steps(table: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    steps = table.get("steps", [table])
    if "steps" in table and len(table) > 1:
        raise RequestError(f"[[calibration]] in {where}: give either steps or one protocol, not both")
    if not isinstance(steps, list) or not steps or not all(isinstance(step, dict) for step in steps):
        raise RequestError(f"[[calibration]] in {where}, steps = {steps!r}: expected a list of tables")
    return steps


def _calibrations(table: Mapping[str, Any], where: str) -> Iterable[Calibration]:
    steps = _steps(table, where)
    for combination in itertools.product(*[list(_settings("calibration", step, where)) for step in steps]):
        yield Calibration(tuple(combination))


def _quantizers(table: Mapping[str, Any], where: str) -> Iterable[Quantized]:
    policy_names = [field.name for field in fields(BitPolicy)]
    for name, options in _named("quantizer", table, where):
        policy = {key: options.pop(key) for key in policy_names if key in options}
        bits, engine = options.pop("bits", None), check_engine(options.pop("engine", SIMULATED))
        if not is_calibrated(registry.load("quantizers", name)):
            if bits or policy:
                raise RequestError(f"[[quantizer]] in {where}: {name!r} takes no bits")
            if engine != SIMULATED:
                raise RequestError(f"[[quantizer]] in {where}: {name!r} takes no engine: nothing of it is exported")
            yield Quantized(configure("quantizers", name, options), None)
            continue
        known = _known("quantizer", {"method": name})
        for key in options:
            if key not in known:
                raise unknown_name(f"option of quantizer {name!r}", key, known)
        if bits is not None:
            if set(BITS_FIELDS) & set(policy):
                raise RequestError(f"[[quantizer]] in {where}: give either bits or weight_bits and activation_bits")
            policy |= bits_fields(str(bits))
        try:
            checked = TypeAdapter(BitPolicy).validate_json(canonical_json(policy), strict=True)
        except ValidationError as error:
            raise registry.validation_error(f"[[quantizer]] in {where}", error) from error
        yield Quantized(configure("quantizers", name, options), checked, engine)


def key_and_value(text: str, option: str, example: str) -> tuple[str, Any]:
    """Return what ``KEY=VALUE`` says: VALUE is TOML, a bare word a string. Raises RequestError if it says nothing."""
    key, separator, written = text.partition("=")
    if not separator or not key:
        raise RequestError(f"{option} {text!r}: expected KEY=VALUE, for example {example}")
    try:
        return key, tomllib.loads(f"value = {written}")["value"]
    except RecursionError as error:
        raise RequestError(f"{option} {key}: lists too deep in each other") from error
    except ValueError:  # no TOML
        return key, written


def _override(raw: dict[str, Any], text: str) -> None:
    key, value = key_and_value(text, "--set", "stream.images=100")
    table, dot, option = key.partition(".")
    if not dot:
        raw[key] = value
        if key == "tasks":
            raw.pop("task", None)
    elif table in TABLES:
        _typed(table, raw.get(table, []), "study")
        if table == "task":
            raw["task"] = _tasks({"tasks": _typed("tasks", raw.pop("tasks", []), "study"), "task": raw.get("task", [])})
        entries = [step for entry in raw.get(table, []) for step in entry.get("steps", [entry])]
        fitting = [entry for entry in entries if option in entry or option in _known(table, entry)]
        if not fitting:
            known = {name for entry in entries for name in _known(table, entry)}
            raise unknown_name(f"option of [[{table}]]", option, known)
        for entry in fitting:
            entry[option] = value
    elif isinstance(raw.setdefault(table, {}), dict):
        raw[table][option] = value
    else:
        raise RequestError(f"--set {text!r}: {table} has no options")


def _known(table: str, entry: Mapping[str, Any]) -> list[str]:
    given = entry.get(TABLES[table], [])
    names = given if isinstance(given, list) else [given]
    known = [option for name in names for option in registry.option_names(_kind(table), name)]
    if table == "task":
        known.append(PRIVATE)
    if table == "quantizer" and any(is_calibrated(registry.load("quantizers", n)) for n in names):
        known += ["bits", "engine", *(field.name for field in fields(BitPolicy))]
    return known
