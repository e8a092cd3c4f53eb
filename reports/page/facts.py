"""What a run or an audit was made with, as pairs of a name and a text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def facts_of(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and text of every fact that says something; bytes become GiB."""
    return [_fact(key, value) for key, value in facts.items() if value not in ("", {}, [], None)]


def _fact(key: str, value: Any) -> tuple[str, str]:
    if key.endswith("_bytes") and isinstance(value, int | float):
        return key.removesuffix("_bytes").replace("_", " "), f"{value / 2**30:.1f} GiB"
    return key.replace("_", " "), _plain(value)


def _plain(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else value if isinstance(value, str) else json.dumps(value)
