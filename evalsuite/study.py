"""Studies: a TOML file whose lists are grids, checked strictly and turned into immutable settings."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from evalsuite import registry
from evalsuite.errors import RequestError, unknown_name
from evalsuite.hashing import canonical_json
from evalsuite.quantization.policy import BitPolicy, parse_bits
from evalsuite.registry import Setting, configure


@dataclass(frozen=True)
class Analysis:
    """How numbers are drawn from the records; no part of a trial's identity."""

    seed: int = 0
    permutations: int = 2000
    bootstrap: int = 2000

    def __post_init__(self) -> None:
        if self.permutations < 1 or self.bootstrap < 1:
            raise RequestError("[analysis] permutations and bootstrap: expected at least 1")


@dataclass(frozen=True)
class Quantized:
    """A PTQ method with its bits; ``bits`` is None for the full-precision network."""

    method: Setting
    bits: BitPolicy | None

    def __str__(self) -> str:
        return f"{display_name(self.method)} {self.bits}" if self.bits else display_name(self.method)

    def as_dict(self) -> dict[str, Any]:
        """Return the form that enters a trial's identity."""
        return {"method": self.method.as_dict(), "bits": self.bits.as_dict() if self.bits else None}


@dataclass(frozen=True)
class Calibration:
    """The steps that make a calibration set: all selections first, then all transforms."""

    steps: tuple[Setting, ...]

    def __str__(self) -> str:
        return ", ".join(display_name(step) for step in self.steps) or "none"

    def as_dict(self) -> list[dict[str, Any]]:
        """Return the form that enters a trial's identity."""
        return [step.as_dict() for step in self.steps]


@dataclass(frozen=True)
class Study:
    """A checked study; its product, without what ``exclude`` names, is the trials."""

    name: str
    title: str
    description: str
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    calibrations: tuple[Calibration, ...]
    quantizers: tuple[Quantized, ...]
    adapters: tuple[Setting, ...]
    streams: tuple[Setting, ...]
    exclude: tuple[str, ...] = ()
    """Canonical JSON of the filters: trials whose settings match all of a filter's values are left out."""
    source_images: int = 256
    """Clean images of the pool that an adapter may take its source statistics from."""
    analysis: Analysis = Analysis()

    def as_dict(self) -> dict[str, Any]:
        """Return the resolved study, every default filled in."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "tasks": list(self.tasks),
            "seeds": list(self.seeds),
            "source_images": self.source_images,
            "calibration": [calibration.as_dict() for calibration in self.calibrations],
            "quantizer": [quantizer.as_dict() for quantizer in self.quantizers],
            "adapter": [adapter.as_dict() for adapter in self.adapters],
            "stream": [stream.as_dict() for stream in self.streams],
            "exclude": [json.loads(text) for text in self.exclude],
            "analysis": {field.name: getattr(self.analysis, field.name) for field in fields(Analysis)},
        }


def display_name(setting: Setting) -> str:
    """Return what a plugin calls itself, if it says so, else its registered name."""
    plugin = setting.build()
    return str(plugin) if "__str__" in vars(type(plugin)) else setting.name.rpartition(":")[2]


_TABLES = {"calibration": "protocol", "quantizer": "method", "adapter": "method", "stream": "protocol"}
_FIELDS: dict[str, Any] = {
    "name": str,
    "title": str,
    "description": str,
    "tasks": list[str],
    "seeds": list[int],
    "source_images": int,
    "analysis": dict[str, int],
    "exclude": list[dict[str, Any]],
} | dict.fromkeys(_TABLES, list[dict[str, Any]])
_REQUIRED = ("name", "tasks", "calibration", "quantizer", "adapter", "stream")


def find(name: str | Path) -> Path:
    """Return the study file for a registered name or a path. Raises RequestError if there is neither."""
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise RequestError(f"no study file {path}")
        return path
    return Path(registry.load("studies", str(name)))


def read(name: str | Path, overrides: Iterable[str] = ()) -> Study:
    """Read and check a study.

    Parameters
    ----------
    name : a registered study or the path of a TOML file.
    overrides : ``KEY=VALUE`` strings; KEY is a key of the study or ``table.option``, VALUE is TOML (a bare
        word is a string). ``table.option`` applies to every entry of the table that has the option.

    Raises
    ------
    RequestError
        For a file that is not TOML, an unknown key (the nearest known one is named) or an impossible value.
    """
    path = find(name)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} is not a TOML file: {error}") from error
    for override in overrides:
        _override(raw, override)
    return parse(raw, str(path))


def parse(raw: Mapping[str, Any], where: str = "study") -> Study:
    """Check a study given as plain values; see :func:`read`."""
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in _FIELDS:
            raise unknown_name(f"key in {where}", key, _FIELDS)
        values[key] = _typed(key, value, where)
    for key in _REQUIRED:
        if not values.get(key):
            raise RequestError(f"{where} has no {key!r}: expected one of each of {', '.join(_REQUIRED)}")
    seeds = values.get("seeds", [0])
    if not seeds or not 0 <= min(seeds) <= max(seeds) < 2**63 or len(set(seeds)) < len(seeds):
        raise RequestError(f"{where}, seeds = {seeds}: expected different whole numbers from 0, below 2^63")
    if values.get("source_images", 1) < 1:
        raise RequestError(f"{where}, source_images = {values['source_images']}: expected at least 1")
    for task in values["tasks"]:
        registry.load("tasks", task)
    quantizers = [q for table in values["quantizer"] for q in _quantizers(table, where)]
    return Study(
        name=values["name"],
        title=values.get("title") or values["name"],
        description=values.get("description", "").strip(),
        tasks=tuple(dict.fromkeys(values["tasks"])),
        seeds=tuple(seeds),
        calibrations=tuple(dict.fromkeys(c for table in values["calibration"] for c in _calibrations(table, where))),
        quantizers=tuple(dict.fromkeys(quantizers)),
        adapters=tuple(dict.fromkeys(s for t in values["adapter"] for s in _settings("adapter", t, where))),
        streams=tuple(dict.fromkeys(s for t in values["stream"] for s in _settings("stream", t, where))),
        exclude=tuple(canonical_json(_filter(f, where)) for f in values.get("exclude", [])),
        source_images=values.get("source_images", 256),
        analysis=_analysis(values.get("analysis", {}), where),
    )


def _typed(key: str, value: Any, where: str) -> Any:
    """Return a key's value if it is of the key's type."""
    try:
        return TypeAdapter(_FIELDS[key]).validate_python(value, strict=True)
    except ValidationError as error:
        raise registry.validation_error(f"{where}, {key}", error) from error


def _analysis(values: Mapping[str, int], where: str) -> Analysis:
    known = [field.name for field in fields(Analysis)]
    for key in values:
        if key not in known:
            raise unknown_name(f"key in [analysis] of {where}", key, known)
    return Analysis(**values)


def _filter(values: dict[str, Any], where: str) -> dict[str, Any]:
    known = ["task", "seed", "bits", "calibration", "quantizer", "adapter", "stream"]
    for key, value in values.items():
        if key not in known and key.partition(".")[0] not in ("quantizer", "adapter", "stream"):
            raise unknown_name(f"key in [[exclude]] of {where}", key, known)
        if not all(isinstance(part, str | int | float) for part in (value if isinstance(value, list) else [value])):
            raise RequestError(f"[[exclude]] of {where}, {key} = {value!r}: expected text, a number or a list of them")
    if not values:
        raise RequestError(f"[[exclude]] of {where} is empty: expected at least one setting")
    return values


def _kind(table: str) -> registry.Kind:
    return {"quantizer": "quantizers", "adapter": "adapters"}.get(table, "protocols")  # type: ignore[return-value]


def _grid(table: Mapping[str, Any], whole: Iterable[str] = ()) -> Iterable[dict[str, Any]]:
    """Yield every combination of a table's lists; a list of an option in ``whole`` is one value."""
    kept = set(whole)
    axes = []
    for key, value in table.items():
        expand = isinstance(value, list) and (key not in kept or any(isinstance(part, list) for part in value))
        if isinstance(value, list) and not value:
            raise RequestError(f"{key} = []: expected at least one value")
        axes.append([(key, part) for part in value] if expand else [(key, value)])
    return (dict(pairs) for pairs in itertools.product(*axes))


def _named(table_name: str, table: Mapping[str, Any], where: str) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield (plugin, options) for every combination of a table."""
    key = _TABLES[table_name]
    given = table.get(key)
    if given is None:
        raise RequestError(f"[[{table_name}]] in {where} has no {key!r}: it has {', '.join(table) or 'nothing'}")
    names = given if isinstance(given, list) else [given]
    if not names or not all(isinstance(name, str) for name in names):
        raise RequestError(f"[[{table_name}]] in {where}, {key} = {given!r}: expected a name or a list of names")
    for name in names:
        options = {k: v for k, v in table.items() if k != key}
        for chosen in _grid(options, registry.list_options(_kind(table_name), name)):
            yield name, chosen


def _settings(table_name: str, table: Mapping[str, Any], where: str) -> Iterable[Setting]:
    for name, options in _named(table_name, table, where):
        setting = configure(_kind(table_name), name, options)
        if table_name == "stream" and not hasattr(registry.load("protocols", name), "plan"):
            raise RequestError(f"[[stream]] in {where}: {name!r} is a calibration step, not a stream")
        yield setting


def _calibrations(table: Mapping[str, Any], where: str) -> Iterable[Calibration]:
    steps = table.get("steps", [table])
    if "steps" in table and len(table) > 1:
        raise RequestError(f"[[calibration]] in {where}: give either steps or one protocol, not both")
    if not isinstance(steps, list) or not steps or not all(isinstance(step, dict) for step in steps):
        raise RequestError(f"[[calibration]] in {where}, steps = {steps!r}: expected a list of tables")
    for combination in itertools.product(*[list(_settings("calibration", step, where)) for step in steps]):
        for setting in combination:
            if not hasattr(registry.load("protocols", setting.name), "select"):
                raise RequestError(f"[[calibration]] in {where}: {setting.name!r} is a stream, not a calibration step")
        yield Calibration(tuple(combination))


def _quantizers(table: Mapping[str, Any], where: str) -> Iterable[Quantized]:
    policy_names = [field.name for field in fields(BitPolicy)]
    for name, options in _named("quantizer", table, where):
        policy = {key: options.pop(key) for key in policy_names if key in options}
        bits = options.pop("bits", None)
        if not getattr(registry.load("quantizers", name), "calibrated", True):
            if bits or policy:
                raise RequestError(f"[[quantizer]] in {where}: {name!r} takes no bits")
            yield Quantized(configure("quantizers", name, options), None)
            continue
        if bits is not None:
            if {"weight_bits", "activation_bits"} & set(policy):
                raise RequestError(f"[[quantizer]] in {where}: give either bits or weight_bits and activation_bits")
            policy["weight_bits"], policy["activation_bits"] = parse_bits(str(bits))
        try:
            checked = TypeAdapter(BitPolicy).validate_json(canonical_json(policy), strict=True)
        except ValidationError as error:
            raise registry.validation_error(f"[[quantizer]] in {where}", error) from error
        yield Quantized(configure("quantizers", name, options), checked)


def _override(raw: dict[str, Any], text: str) -> None:
    key, separator, written = text.partition("=")
    if not separator or not key:
        raise RequestError(f"--set {text!r}: expected KEY=VALUE, for example stream.images=100")
    try:
        value = tomllib.loads(f"value = {written}")["value"]
    except tomllib.TOMLDecodeError:
        value = written
    table, dot, option = key.partition(".")
    if not dot:
        raw[key] = value
    elif table in _TABLES:
        _typed(table, raw.get(table, []), "study")
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
    given = entry.get(_TABLES[table], [])
    names = given if isinstance(given, list) else [given]
    known = [option for name in names for option in registry.option_names(_kind(table), name)]
    if table == "quantizer" and any(getattr(registry.load("quantizers", n), "calibrated", True) for n in names):
        known += ["bits", *(field.name for field in fields(BitPolicy))]
    return known
