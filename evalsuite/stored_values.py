"""What a run's files may hold, looked at where they are read: a folder may be a stranger's, and its files well-formed.

Each function raises ValueError, in a line, for what evalsuite writes in no file; what only later versions write may be
missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_TEXTS, _TABLES = ("name", "title", "description", "command"), ("settings", "analysis", "tasks", "versions", "hardware")
_STATUS = ("done", "failed", "refused")
_JSON = {"calibration": list, "warnings": list, "adapter_facts": dict}
_FROM_ZERO = {"image", "position", "label", "prediction", "severity", "domain", "family"}


def check_study(study: Mapping[str, Any]) -> None:
    """Look at the values of ``study.json`` that a report reads."""
    for name in _TEXTS:
        _expect(isinstance(study[name], str), name, study[name], "text")
    for name in _TABLES:
        _expect(isinstance(study[name], dict), name, study[name], "a table")
    _expect(isinstance(study["trials"], int), "trials", study["trials"], "a whole number")
    for name, kind in (("seeds", int), ("notes", str)):
        values = study[name]
        fits = isinstance(values, list) and all(isinstance(value, kind) for value in values)
        _expect(fits, name, values, f"a list of {kind.__name__}")
    for task, facts in study["tasks"].items():
        classes = facts.get("classes") if isinstance(facts, dict) else None
        fits = isinstance(classes, list) and bool(classes)
        _expect(fits, f"classes of task {task}", classes, "a list of names")


def check_trials(table: pa.Table, schema: pa.Schema) -> None:
    """Look at a table of trials, whose columns in ``schema`` must be of its types or become so without loss."""
    for field in schema:
        if field.name in table.column_names:
            column = table[field.name].cast(field.type)
            if pa.types.is_floating(field.type):
                _expect(not pc.any(pc.is_inf(column)).as_py(), field.name, "infinite", "finite numbers")
    known = table["trial"].drop_null()
    _expect(len(pc.unique(known)) == len(table), "trial", "missing, or the same twice", "another one in every row")
    odd = [value for value in pc.unique(table["status"]).to_pylist() if value not in _STATUS]
    _expect(not odd, "status", odd, f"one of {', '.join(_STATUS)}")
    for name, kind in _JSON.items():
        for text in pc.unique(table[name]).to_pylist():
            older = name == "warnings" and "collapsed_at" not in table.column_names  # joined by semicolons
            _expect(text is None or older or _is_json(text, kind), name, text, f"JSON of a {kind.__name__}")
    for name in table.column_names:
        _expect(not pa.types.is_nested(table[name].type), name, table[name].type, "a number or text in every row")


def check_records(table: pa.Table, schema: pa.Schema) -> None:
    """Look at records of a trial: columns in ``schema`` must be of its types, and numbers of things not negative."""
    for name in table.column_names:
        found = table[name].type
        if name not in schema.names:
            _expect(not pa.types.is_nested(found) or pa.types.is_dictionary(found), name, found, "numbers or text")
            continue
        wanted = schema.field(name).type
        same = pa.types.is_dictionary(found) if pa.types.is_dictionary(wanted) else found == wanted
        _expect(same, name, found, str(wanted))
    for name in _FROM_ZERO & {*table.column_names}:
        _expect(table[name].null_count == 0, name, None, "a value in every row")
        if pa.types.is_integer(table[name].type) and len(table):
            least = pc.min(table[name]).as_py()
            _expect(least >= 0, name, least, "at least 0")


def _is_json(text: str, kind: type) -> bool:
    try:
        return isinstance(json.loads(text), kind)
    except (ValueError, RecursionError):
        return False


def _expect(fits: bool, name: str, found: Any, expected: str) -> None:
    if not fits:
        raise ValueError(f"{name} = {str(found)[:80]!r}: expected {expected}")
