"""Every option of a registered plugin is explained where its class is."""

import dataclasses
import inspect
import re

import pytest

from evalsuite import registry

PLUGINS = [(kind, name) for kind in ("tasks", "quantizers", "adapters", "protocols") for name in registry.names(kind)]


def explained(cls):
    """Names that the class's own section Parameters explains, ``a, b : text`` each, and a line that has the text."""
    section = re.search(r"\nParameters\n-{10}\n(.*?)(?=\n\n|\Z)", inspect.cleandoc(cls.__doc__ or ""), re.DOTALL)
    entries = re.findall(r"^(\w[\w, ]*?) :\s+(\S)", section.group(1) if section else "", re.MULTILINE)
    return {name for names, _ in entries for name in names.split(", ")}


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_the_docstring_explains_every_option_and_no_other(kind, name):
    cls = registry.load(kind, name)
    options = {field.name for field in dataclasses.fields(cls) if field.init}
    assert explained(cls) == options
    assert registry.summary(kind, name).endswith(".")
