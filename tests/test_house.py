"""The shape of the house: what imports what, and how long its rooms are."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("evalsuite", "protocols", "reports")
LINES, FUNCTION_LINES = 400, 60
SOURCES = sorted(file for folder in PACKAGES for file in (ROOT / folder).rglob("*.py"))
WRITTEN = [*SOURCES, *sorted((ROOT / "benchmarks").rglob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]


def module_of(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in SOURCES}


def statements(node):
    """Yield the import statements that run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not (
            isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        ):
            yield from statements(child)


def targets(statement):
    """Yield the modules of ours that an import statement names."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names if alias.name in MODULES)
        return
    for alias in statement.names:
        inside = f"{statement.module}.{alias.name}"
        yield inside if inside in MODULES else statement.module


@cache
def imports(lazily=False):
    """Return, by module, the modules of ours that it imports; ``lazily``: those that functions import as well."""
    graph = {}
    for name, file in MODULES.items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        chosen = (
            (n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)) if lazily else statements(tree)
        )
        graph[name] = {target for statement in chosen for target in targets(statement) if target in MODULES} - {name}
    return graph


def circle_of(graph):
    """Return the nodes of a circle, none if there is none."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        path.append(node)
        for target in sorted(graph.get(node, ())):
            if circle := visit(target):
                return circle
        done.add(path.pop())
        return []

    return next((circle for node in sorted(graph) if (circle := visit(node))), [])


def room(module):
    """Return the sub-package a module lives in; a module at a package's door is a room of its own."""
    parts = module.split(".")
    if MODULES[module].name == "__init__.py":
        return module if len(parts) > 1 else f"{module}.__init__"
    return ".".join(parts[:2])


def test_circles_are_seen():
    assert circle_of({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle_of({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert len(MODULES) > 200
    assert imports()["evalsuite.study.trials"]


def test_no_module_imports_itself_by_way_of_another():
    assert circle_of(imports()) == []


def test_no_package_imports_itself_by_way_of_another():
    between = {}
    for module, chosen in imports().items():
        between.setdefault(room(module), set()).update({room(target) for target in chosen} - {room(module)})
    assert circle_of(between) == []


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("evalsuite", ("protocols", "reports")),
        ("protocols", ("reports",)),
        ("reports", ("protocols", "evalsuite.running", "evalsuite.quantizers", "evalsuite.adapters", "torch")),
        ("evalsuite.statistics", ("evalsuite.study", "evalsuite.running", "evalsuite.analysis", "evalsuite.store")),
        ("evalsuite.quantization", ("evalsuite.study", "evalsuite.running", "evalsuite.quantizers")),
        ("evalsuite.study", ("evalsuite.running", "evalsuite.analysis")),
        ("evalsuite.running", ("evalsuite.analysis",)),
    ],
)
def test_data_flow_one_way(package, forbidden):
    against = {
        (module, target)
        for module, chosen in imports(lazily=True).items()
        if f"{module}.".startswith(f"{package}.")
        for target in chosen
        if f"{target}.".startswith(tuple(f"{name}." for name in forbidden))
    }
    assert against == set()


def lengths():
    """Yield (name, lines, most) of every file and function."""
    for file in WRITTEN:
        text, name = file.read_text(encoding="utf-8"), str(file.relative_to(ROOT))
        yield name, text.count("\n"), LINES
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}:{node.name}", node.end_lineno - node.lineno + 1, FUNCTION_LINES


def test_files_and_functions_are_short():
    assert {name: lines for name, lines, most in lengths() if lines > most} == {}
