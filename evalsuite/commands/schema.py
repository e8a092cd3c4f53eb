"""``evalsuite schema``: the JSON schemas of what is read and written."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from evalsuite.commands._options import DONE


def schema(name: Annotated[str, typer.Argument(help="study or verdict.")]) -> int:
    """Print a JSON schema (draft 2020-12): of a study file's values, or of an audit's verdict.json."""
    from evalsuite.analysis.verdict import Verdict
    from evalsuite.errors import unknown_name
    from evalsuite.study.schema import study_schema

    schemas = {"study": study_schema, "verdict": Verdict.model_json_schema}
    if name not in schemas:
        raise unknown_name("schema", name, schemas)
    print(json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schemas[name]()}, indent=2))
    return DONE
