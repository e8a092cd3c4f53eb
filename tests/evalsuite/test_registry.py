import importlib.metadata
import re
from pathlib import Path

import pytest
from _dummies import plugins

from evalsuite import registry
from evalsuite.errors import RequestError


def test_every_registered_plugin_loads_and_says_what_it_is():
    for kind in ("tasks", "quantizers", "adapters", "protocols", "figures"):
        for name in registry.names(kind):
            assert registry.summary(kind, name), f"{kind} {name} has no docstring"
            assert "``" not in registry.summary(kind, name)
            assert ":`" not in registry.summary(kind, name)


def test_misspelt_name_suggests_the_nearest():
    with pytest.raises(RequestError, match="did you mean 'adaround'"):
        registry.load("quantizers", "adarund")


def test_misspelt_option_suggests_the_nearest():
    with pytest.raises(RequestError, match=r"option of quantizer .*'level'.*did you mean 'levels'"):
        registry.configure("quantizers", plugins.SCALED, {"level": 3})


def test_impossible_value_is_one_line_that_names_it():
    with pytest.raises(RequestError, match=r"levels = 'many'") as caught:
        registry.configure("quantizers", plugins.SCALED, {"levels": "many"})
    assert "\n" not in str(caught.value)


def test_a_plugin_s_own_refusal_is_passed_on():
    with pytest.raises(RequestError, match=r"^contaminated fraction 2"):
        registry.configure("protocols", "noise", {"fraction": 2.0})


def test_settings_of_equal_meaning_are_equal():
    assert registry.configure("quantizers", plugins.SCALED) == registry.configure(
        "quantizers", plugins.SCALED, {"levels": 4}
    )


def test_setting_builds_the_plugin():
    setting = registry.configure("quantizers", plugins.SCALED, {"levels": 7})
    assert setting.build() == plugins.Scaled(7)
    assert setting.as_dict() == {"name": plugins.SCALED, "options": {"levels": 7}}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_module:Thing", "cannot import"),
        ("_dummies.plugins:Thing", "has no 'Thing'"),
        ("missing.py:Thing", "no file missing.py"),
    ],
)
def test_paths_that_lead_nowhere(path, message):
    with pytest.raises(RequestError, match=message):
        registry.load("quantizers", path)


def test_file_plugins_are_identified_by_their_content(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("class Mine:\n    '''Mine.'''\n")
    first = registry.configure("quantizers", f"{file}:Mine")
    file.write_text("class Mine:\n    '''Mine, changed.'''\n")
    second = registry.configure("quantizers", f"{file}:Mine")
    assert first.source != second.source
    assert registry.summary("quantizers", f"{file}:Mine") == "Mine, changed."


def test_file_that_does_not_import_is_named(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("import no_such_module\n")
    with pytest.raises(RequestError, match=r"broken\.py cannot be imported: ModuleNotFoundError"):
        registry.load("quantizers", f"{file}:Mine")


def test_plugin_that_changes_the_working_folder_as_it_is_imported_does_so_for_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("import os\nos.chdir('/')\nclass Mine:\n    'Mine.'\n")
    registry.load("quantizers", "mine.py:Mine")
    assert Path.cwd() == tmp_path


def test_two_packages_with_one_name_collide(monkeypatch):
    import importlib.metadata as metadata

    points = [metadata.EntryPoint("twin", f"package_{k}:Twin", "evalsuite.reports") for k in "ab"]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points)
    registry._entry_points.cache_clear()
    try:
        with pytest.raises(RequestError, match="two installed packages register report 'twin'"):
            registry.names("reports")
    finally:
        registry._entry_points.cache_clear()


def test_registered_plugin_that_cannot_be_loaded_is_named(monkeypatch):
    import importlib.metadata as metadata

    monkeypatch.setattr(
        metadata, "entry_points", lambda group: [metadata.EntryPoint("gone", "no_such_module:Gone", group)]
    )
    registry._entry_points.cache_clear()
    try:
        with pytest.raises(RequestError, match="'gone' is registered as no_such_module:Gone but cannot be loaded"):
            registry.load("adapters", "gone")
    finally:
        registry._entry_points.cache_clear()


def test_a_default_and_the_same_value_given_are_one_setting():
    name = "_dummies.plugins:WholeDefault"
    assert registry.configure("adapters", name) == registry.configure("adapters", name, {"strength": 1})


def test_two_spellings_of_a_file_are_one_plugin(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("class Mine:\n    'Mine.'\n")
    assert registry.configure("quantizers", "./mine.py:Mine") == registry.configure("quantizers", "mine.py:Mine")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def Mine(): pass", "is a function: expected a class"),
        ("class Mine:\n    def __init__(self, x): pass", "cannot be made"),
        ("syntax error", "cannot be imported: SyntaxError"),
        ("raise SystemExit(0)", "cannot be imported: SystemExit: 0"),
        (
            "raise BaseException('x' * 10_000_000)",
            r"cannot be imported: BaseException: x+\.\.\. \(10,000,000 characters\)",
        ),
        ("class Mine:\n    def __init__(self): exit(0)", "cannot be made: SystemExit: 0"),
        ("class Mine:\n    def __init__(self): 1 / 0", "cannot be made: ZeroDivisionError"),
    ],
)
def test_targets_that_are_no_plugin(tmp_path, code, message):
    (tmp_path / "mine.py").write_text(code)
    with pytest.raises(RequestError, match=message):
        registry.configure("quantizers", f"{tmp_path}/mine.py:Mine")


@pytest.mark.parametrize("name", [":Mine", ".:Mine", "os:path", "json:dumps"])
def test_import_paths_that_are_no_plugin(name):
    with pytest.raises(RequestError):
        registry.configure("quantizers", name)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"lr": float("nan")}, [1.0, float("-inf")]])
def test_an_option_that_is_not_finite_is_named(value):
    with pytest.raises(RequestError, match=r"^adapter 'zoa', lr = .*(nan|inf).*: expected finite numbers$"):
        registry.configure("adapters", "zoa", {"lr": value})


def test_a_folder_that_hides_our_own_package_is_named(tmp_path, monkeypatch):
    point = importlib.metadata.EntryPoint("lost", "protocols.no_such_module:Thing", "evalsuite.protocols")
    monkeypatch.setattr(registry, "_entry_points", lambda kind: {"lost": point})
    with pytest.raises(RequestError, match=r"cannot be loaded: ModuleNotFoundError: [^;]*$"):
        registry.load("protocols", "lost")
    monkeypatch.setattr(registry, "hiding", lambda package: tmp_path / package)
    expected = f"; {tmp_path / 'protocols'} hides evalsuite's own protocols: rename it, or work elsewhere"
    with pytest.raises(RequestError, match=re.escape(expected) + "$"):
        registry.load("protocols", "lost")


HOST = """
from dataclasses import dataclass
from evalsuite.adapters.tent import Tent

@dataclass(frozen=True)
class Mine(Tent):
    pass
"""


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("method", ["ttaq", "oracle"])
def test_code_that_an_option_names_is_part_of_what_a_plugin_is(tmp_path, method, nested):
    """A host that was edited is another method: its trials are not those of the host as it was."""
    file = tmp_path / "host.py"

    def canonical():
        host = {"host": f"{file}:Mine"}
        options = {"host": "ttaq", "host_options": host} if nested else host
        return registry.configure("adapters", method, options).canonical

    file.write_text(HOST)
    before = canonical()
    assert canonical() == before
    file.write_text(HOST + "    # edited\n")
    assert canonical() != before


def test_names_alone_bring_no_code():
    plain = registry.configure("adapters", "ttaq", {"host": "tent"})
    assert plain.source == ""
    assert "source" not in plain.as_dict()
