"""The templates of pages: everything that a record or a name holds is escaped."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

_HERE = Path(__file__).parent


def template(name: str) -> jinja2.Template:
    """Return a template of this folder; a name that it lacks is an error, not an empty text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def own(name: str) -> Markup:
    """Return the text of a style sheet or script of this folder, which stands in a page as it is."""
    return Markup((_HERE / name).read_text(encoding="utf-8"))
