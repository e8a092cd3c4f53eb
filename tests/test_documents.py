"""What the documents show works: every block of code runs or says why not, links lead somewhere, the site is built."""

import contextlib
import doctest
import io
import json
import os
import shlex
import shutil
import sys
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

import matplotlib.pyplot
import pytest
import typer
from _dummies.documents import DOCUMENTS, PAGES, ROOT, anchors_of, blocks_of, commands_of, links_of

from evalsuite import cli, registry
from evalsuite.study.file import FIELDS, TABLES

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
LANGUAGES = {"", "console", "python", "toml", "latex"}
LESS = ("seeds=[0]", "stream.images=20", "gate.images=100", 'report.figures=["error_heatmap"]')
SMALL = {
    "run": ["--in-process", *(word for change in LESS for word in ("--set", change))],
    "report": ["--figures", "error_heatmap"],
}
"""What makes a command cheap enough for a test where the document does not say it itself."""
BLOCKS = [block for file in DOCUMENTS for block in blocks_of(file)]


def named(block):
    return f"{block.page}:{block.line}"


def call(arguments):
    """Run a command of ours in this process; return its status and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.call(arguments)
    return status, out.getvalue(), err.getvalue()


def words(command):
    """The words of a command of ours up to a comment, pipe or redirection, and the file that it is redirected to."""
    given = shlex.split(command, comments=True)
    end = next((i for i, word in enumerate(given) if word in ("|", "&&", ";", ">")), len(given))
    return given[1:end], given[end + 1] if given[end : end + 1] == [">"] else None


def follow(command, printed):
    if not command.startswith("evalsuite "):
        pytest.fail(f"{command}: neither ours nor said not to be run")
    arguments, file = words(command)
    extra = SMALL.get(arguments[0], []) if "--card" not in arguments and "--figures" not in arguments else []
    status, out, err = call([*arguments, *extra])
    assert status == 0, (command, err)
    if file is not None:
        Path(file).write_text(out)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for line in printed:
        assert any(fnmatchcase(said, " ".join(line.split())) for said in lines), (command, line, lines)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder in which the first study has been run, twice."""
    folder = tmp_path_factory.mktemp("desk")
    before = Path.cwd()
    os.chdir(folder)
    try:
        study, *_ = (block for block in blocks_of(ROOT / "docs" / "index.md") if block.file == "first.toml")
        Path("first.toml").write_text(study.text)
        follow("evalsuite run first.toml", ["5 trials: 5 done, 0 refused, 0 failed"])
        shutil.copytree("runs/first", "runs/again")
        _photographs(folder / "photos")
    finally:
        os.chdir(before)
    return folder


def _photographs(folder):
    import numpy as np
    from PIL import Image

    for name in ("cats", "dogs"):
        (folder / name).mkdir(parents=True)
        for i in range(12):
            pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda file: file.stem)
def test_the_blocks_of_a_page_work_in_their_order(page, desk, monkeypatch):
    monkeypatch.chdir(desk)
    monkeypatch.syspath_prepend(str(desk))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    names = {}
    for block in blocks_of(page):
        if block.reason:
            continue
        if block.file:
            Path(block.file).write_text(block.text)
        if block.language == "console":
            for command, printed in commands_of(block):
                if command != "evalsuite run first.toml":  # the desk has done so
                    follow(command, printed)
        elif block.language == "python" and ">>>" in block.text:
            found = doctest.DocTestParser().get_doctest(block.text, names, named(block), str(page), block.line)
            runner = doctest.DocTestRunner(verbose=False)
            said = io.StringIO()
            runner.run(found, out=said.write, clear_globs=False)
            names = found.globs
            assert not runner.failures, said.getvalue()
        elif block.language == "python" and not block.file:
            exec(compile(block.text, named(block), "exec"), names)
        elif block.language == "python":
            compile(block.text, block.file, "exec")


def test_every_block_says_what_it_is_and_why_it_is_not_run():
    for block in BLOCKS:
        assert block.language in LANGUAGES, named(block)
        assert len(block.reason) != 1, named(block)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "console"], ids=named)
def test_a_command_has_the_options_that_a_document_gives_it(block):
    group = typer.main.get_command(cli.app)
    for command, _ in commands_of(block):
        arguments = words(command)[0] if command.startswith("evalsuite ") else []
        if not arguments or arguments[0].startswith("-"):
            continue
        try:
            group.commands[arguments[0]].make_context(arguments[0], arguments[1:])
        except Exception as error:
            if not hasattr(error, "format_message"):  # of typer's copy of click, told by its form
                if getattr(error, "exit_code", 1) == 0:  # --help
                    continue
                raise
            pytest.fail(f"{named(block)}: {command}: {error.format_message()}")


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "toml"], ids=named)
def test_a_table_of_a_document_is_one_that_a_study_knows(block):
    found = tomllib.loads(block.text)
    if block.file == "names.toml" or "project" in found:
        return
    assert found.keys() <= FIELDS.keys()
    for table in TABLES.keys() & found.keys():
        for entry in found[table]:
            for step in entry.get("steps", [entry]):
                kind = {"task": "tasks", "quantizer": "quantizers", "adapter": "adapters"}.get(table, "protocols")
                names = step[TABLES[table]]
                for name in names if isinstance(names, list) else [names]:
                    known = {*registry.option_names(kind, name), TABLES[table], "bits", "engine", "private"}
                    assert step.keys() <= known, (named(block), name)


def test_the_notebook_works_and_holds_nothing_that_it_would_make(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.pyplot.switch_backend("agg")  # no window
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    names = {}
    for place, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            exec(compile("".join(cell["source"]), f"notebook, cell {place}", "exec"), names)
    drops = names["frame"].groupby(["group", "network"])["beyond"].any()["class"]
    assert drops["rtn W2A4"]
    assert not drops["gptq W4A4"]
    assert [axes.get_xlabel() for axes in names["figure"].axes] == ["drop of a class (points)"]
    matplotlib.pyplot.close(names["figure"])
    text = tmp_path / "notebook.md"
    text.write_text("\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"))
    for link in links_of(text):
        target, _, anchor = link.partition("#")
        assert not anchor or anchor in anchors_of(NOTEBOOK.parent / target)
        assert (NOTEBOOK.parent / target).is_file()


GENERATED = {"schemas/study.json", "schemas/verdict.json"}


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(file):
    for link in links_of(file):
        target, _, anchor = link.partition("#")
        if target.startswith(("https://", "http://")) or target in GENERATED:
            continue
        goal = (file.parent / target).resolve() if target else file
        assert goal.exists(), (file.name, link)
        if anchor and goal.name != "settings.md":  # whose headings the code makes; the site's builder looks at those
            assert anchor in anchors_of(goal), (file.name, link)


def test_every_page_is_in_the_site_and_none_is_long():
    listed = [line.split(": ")[1] for line in (ROOT / "mkdocs.yml").read_text().splitlines() if line.endswith(".md")]
    results = [f"results/{page.name}" for page in sorted((ROOT / "docs" / "results").glob("*.md"))]
    assert sorted(listed) == sorted([*(page.name for page in PAGES), *results])
    assert len(PAGES) <= 12


def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="the site's builder is not installed (extra docs)")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True)
    build(config)
    settings = (tmp_path / "settings.html").read_text()
    for kind in ("quantizers", "adapters", "protocols", "tasks", "figures"):
        for name in registry.names(kind):
            assert f"<code>{name}</code>" in settings, name
    for name in FIELDS:
        assert name in settings
    assert (tmp_path / "schemas" / "study.json").is_file()
