"""The JSON schema of a study file: what editors complete and programs check before evalsuite does.

Values are described as they are written: a list where a key's value may be one is a grid. A plugin that is not
installed, a ``path.py:Class``, has options that no schema knows, so that further keys are let through.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter

from evalsuite import registry
from evalsuite.bits import BitPolicy
from evalsuite.catalogue import bits_options
from evalsuite.described import Option, described, options_of
from evalsuite.optional_members import is_calibration_step, is_stream
from evalsuite.study.file import FIELDS, PRIVATE, TABLES
from evalsuite.study.report import Report
from evalsuite.study.settings import Study
from evalsuite.study.tables import Analysis, Corruption, Diagnosis, Gate

Schema = dict[str, Any]

SINGLE: dict[str, type] = {
    "corruption": Corruption,
    "analysis": Analysis,
    "gate": Gate,
    "report": Report,
    "diagnosis": Diagnosis,
}
"""The tables of a study that hold single values."""

KEYS: dict[str, str] = {
    "name": "Of the study, and of its run's folder.",
    "title": "In a line, for the report; by default the name.",
    "description": "Some sentences for the report.",
    "tasks": "Names of tasks without options, in short for tables [[task]].",
    "seeds": "Whole numbers from 0, a calibration draw and a stream's order each; by default [0].",
    "source_images": "Clean images of the pool that an adapter may take its source statistics from; by default 256.",
    "max_trials": "More trials than this are refused; by default 10,000.",
    "exclude": "Trials whose settings match all keys of one of these tables are left out.",
    "task": "A data set with a trained network.",
    "calibration": "Which images a quantizer is calibrated with: one step, or `steps` in order.",
    "quantizer": "A PTQ method with its bits and options.",
    "adapter": "A test-time adaptation method with its options.",
    "stream": "Which test images are shown, under which corruption, in which order and batches.",
}
"""What the keys of a study mean, but for the tables that hold single values, which say it themselves."""


def study_schema() -> Schema:
    """Return the JSON schema (draft 2020-12) of a study's values."""
    properties = {key: _key(key, kind) for key, kind in FIELDS.items()}
    for table in TABLES:
        properties[table]["items"] = _table(table)
    return {
        "title": "Study",
        "description": (Study.__doc__ or "").splitlines()[0],
        "type": "object",
        "properties": properties,
        "required": ["name", "calibration", "quantizer", "adapter", "stream"],
        "additionalProperties": False,
    }


def _key(key: str, kind: Any) -> Schema:
    if key not in SINGLE:
        return TypeAdapter(kind).json_schema() | {"description": KEYS[key]}
    found = TypeAdapter(SINGLE[key]).json_schema()
    for option in options_of(SINGLE[key]):
        found["properties"][option.name]["description"] = option.text
    return found | {"description": described(SINGLE[key])[0], "additionalProperties": False}


def plugins(table: str) -> dict[str, type]:
    """Return the registered plugins that a table of a study may name; ``table`` is one of ``TABLES``."""
    kinds: dict[str, registry.Kind] = {"task": "tasks", "quantizer": "quantizers", "adapter": "adapters"}
    kind = kinds.get(table, "protocols")
    found = {name: registry.load(kind, name) for name in registry.names(kind)}
    fits = {"stream": is_stream, "calibration": is_calibration_step}.get(table)
    return {name: cls for name, cls in found.items() if fits is None or fits(cls)}


def _table(table: str) -> Schema:
    """Return the schema of one table: the name of its plugin, and the options of all that it may name."""
    found = plugins(table)
    texts: dict[str, list[str]] = {}
    kinds: dict[str, list[Schema]] = {}
    definitions: Schema = {}
    for name, cls in found.items():
        own = TypeAdapter(cls).json_schema()
        definitions |= own.get("$defs", {})
        for option in options_of(cls):
            _add(texts, kinds, option, name, own["properties"][option.name])
    if table == "quantizer":
        policy = TypeAdapter(BitPolicy).json_schema()["properties"]
        for option in bits_options():
            _add(texts, kinds, option, "", policy.get(option.name, {"type": "string"}))
        kinds["overrides"] = [{"type": "object"}]
    assert not definitions, definitions  # a reference would point nowhere
    names: Schema = {"anyOf": [{"enum": list(found)}, {"type": "string", "pattern": ":"}]}
    properties = {TABLES[table]: _grid([names]) | {"description": f"One of: {', '.join(found)}; or a path.py:Class."}}
    properties |= {option: _grid(kinds[option]) | {"description": " ".join(texts[option])} for option in kinds}
    if table == "task":
        properties[PRIVATE] = {"type": "boolean", "description": "No pixel of its images goes into the report."}
    one = {"type": "object", "properties": properties}
    if table != "calibration":
        return one | {"required": [TABLES[table]]}
    step = one | {"required": [TABLES[table]]}
    steps = {"type": "array", "items": step, "description": "Several steps in order, in the place of one protocol."}
    return one | {"properties": properties | {"steps": steps}}


def _add(texts: dict[str, list[str]], kinds: dict[str, list[Schema]], option: Option, name: str, kind: Schema) -> None:
    said = f"{name}: {option.text}" if name else option.text
    kind = {key: value for key, value in kind.items() if key not in ("default", "title")}
    if kind not in kinds.setdefault(option.name, []):
        kinds[option.name].append(kind)
    texts.setdefault(option.name, []).append(said)


def _grid(kinds: Iterable[Schema]) -> Schema:
    """Return the schema of a value of one of these kinds, or of a list of them."""
    each = list(kinds)
    return {"anyOf": [*each, {"type": "array", "items": {"anyOf": each}}]}
