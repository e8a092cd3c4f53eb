"""What the site takes from the code when it is built: every setting, the schemas, docstrings as Markdown.

mkdocs calls ``on_files`` and ``on_page_markdown``; griffe, which reads the code for mkdocstrings, takes ``Docstrings``.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterator

import click
import griffe
import typer
from mkdocs.structure.files import File

from evalsuite import cli, registry
from evalsuite.analysis.verdict import Verdict
from evalsuite.catalogue import KINDS, bits_options, catalogue
from evalsuite.described import Option, describe, described, options_of
from evalsuite.optional_members import is_stream
from evalsuite.study.file import FIELDS, TABLES
from evalsuite.study.schema import KEYS, SINGLE, study_schema

_MARK = re.compile(r"<!-- generated: (\w+) -->")
_SCHEMAS = {"study": study_schema, "verdict": Verdict.model_json_schema}


def on_files(files, config):
    """Add the JSON schemas to the files of the site."""
    for name, schema in _SCHEMAS.items():
        files.append(File.generated(config, f"schemas/{name}.json", content=json.dumps(schema(), indent=2)))
    return files


def on_page_markdown(markdown: str, page, config, files) -> str:
    """Put what is generated where a page has a mark for it."""
    return _MARK.sub(lambda mark: "\n".join(PARTS[mark[1]]()), markdown)


def study() -> Iterator[str]:
    """Yield the keys of a study file, and the tables that hold single values."""
    for key, kind in FIELDS.items():
        if key not in SINGLE:
            place = f"`[[{key}]]`, by `{TABLES[key]}`" if key in TABLES else f"`{key}` ({_kind(kind)})"
            yield f"- {place}: {KEYS[key]}"
    for key, cls in SINGLE.items():
        summary, _ = described(cls)
        yield from ("", f"### `[{key}]`", "", _escaped(summary), "", *map(_line, options_of(cls)))


def bits() -> Iterator[str]:
    """Yield what every calibrated quantizer takes."""
    yield from map(_line, bits_options())


def commands() -> Iterator[str]:
    """Yield each command with its arguments and options."""
    group = typer.main.get_command(cli.app)
    for name, command in sorted(group.commands.items()):
        context = click.Context(command, info_name=f"evalsuite {name}")
        arguments = " ".join(command.collect_usage_pieces(context))
        yield from (f"### `evalsuite {name}`", "", _escaped(inspect.cleandoc(command.help or "")), "")
        yield from (f"`evalsuite {name} {arguments}`", "")
        for names, text in filter(None, (parameter.get_help_record(context) for parameter in command.params)):
            yield f"- `{names}`: {_escaped(text)}"
        yield ""


def plugins(kind: registry.Kind) -> Iterator[str]:
    """Yield each plugin of a kind with its options."""
    for name in registry.names(kind):
        found = describe(kind, name)
        yield from (f"### `{name}`", "", _escaped(found.summary), "")
        if kind == "protocols":
            yield from (f"Of a {'stream' if is_stream(registry.load(kind, name)) else 'calibration set'}.", "")
        if kind == "figures":
            yield from (_escaped(found.source), "")
        yield from (_escaped(found.text), "") if found.text else ()
        yield from (*map(_line, found.options), "")
        source = "" if kind == "figures" else f" {_escaped(found.source)}"
        yield from (f"*Source:* `{found.path}`.{source}", "")


def listed(kind: str) -> Iterator[str]:
    """Yield a line each of what has no options: studies and corruptions."""
    yield from (f"- `{name}`: {_escaped(line)}" for name, line in catalogue(kind).items())


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "study": study,
    "bits": bits,
    "commands": commands,
    **{kind: (lambda kind=kind: listed(kind)) for kind in KINDS if kind in ("studies", "corruptions")},
    **{kind: (lambda kind=kind: plugins(kind)) for kind in KINDS if kind not in ("studies", "corruptions")},
}


def _line(option: Option) -> str:
    default = "must be given" if option.default is None else f"default `{option.default}`"
    cost = " Changes what it costs, never what it gives." if option.cost_only else ""
    return f"- `{option.name}`: `{option.type}`, {default}. {_escaped(option.text)}{cost}".rstrip()


def _kind(kind: object) -> str:
    return {str: "text", int: "a number", list[str]: "texts", list[int]: "numbers"}.get(kind, str(kind))


def _escaped(text: str) -> str:
    """Return text in which nothing outside of code is taken for HTML."""
    parts = text.split("`")
    return "`".join(part if at % 2 else part.replace("<", "&lt;") for at, part in enumerate(parts))


class Docstrings(griffe.Extension):
    """Turns docstrings, as we write them, into Markdown: sections into lists, references into names."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


_SECTION = re.compile(r"^(\w+)\n-{3,}$", re.MULTILINE)
_ENTRY = re.compile(r"^(\w[\w, ]*?) : +", re.MULTILINE)
_REFERENCE = re.compile(r":\w+:`~?([^`]+)`")


def as_markdown(docstring: str) -> str:
    """Return a docstring as Markdown: ``a, b : text`` becomes an item of a list."""
    text = _REFERENCE.sub(lambda found: f"`{found[1].rpartition('.')[2]}`", inspect.cleandoc(docstring))
    head, *parts = _SECTION.split(text.replace("``", "`"))
    sections = [head.strip()]
    for title, body in zip(parts[::2], parts[1::2], strict=True):
        entries = _ENTRY.split(body.strip())
        items = [
            f"- `{name}`: {' '.join(said.split())}" for name, said in zip(entries[1::2], entries[2::2], strict=True)
        ]
        sections += [f"**{title}**", "\n".join(items) if items else body.strip()]
    return _escaped("\n\n".join(sections))
