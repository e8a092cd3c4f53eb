from __future__ import annotations

import json
import sys

import pytest

from benchmarks.report import Figure, main, paired, table

MEASURED = [
    Figure("fast", 0.5, at_most=0.6),
    Figure("slow", 2.0, "s", at_most=1.5),
    Figure("right", 91.234, "%", at_least=90, at_most=100),
    Figure("plain", 3.0),
    Figure("absent", None, at_most=1, note="no compiler"),
]


def test_a_figure_meets_its_bar_or_not():
    assert [figure.verdict for figure in MEASURED] == ["met", "missed", "met", "", "not measured"]
    assert MEASURED[2].bar == "<= 100, >= 90"


def test_the_table_has_a_line_a_figure():
    lines = table(MEASURED).splitlines()
    assert len(lines) == 1 + len(MEASURED)
    assert lines[3].split("  ")[-1] == "met"
    assert lines[-1].endswith("no compiler")
    assert "91.23 %" in lines[3]


def test_a_script_prints_json_or_a_table(capsys, monkeypatch):
    roots = []

    def measure(root):
        roots.append(root)
        return MEASURED

    monkeypatch.setattr(sys, "argv", ["script", "--json", "--data-root", "somewhere"])
    main(measure, "What.")
    assert [Figure(**fields) for fields in json.loads(capsys.readouterr().out)] == MEASURED
    monkeypatch.setattr(sys, "argv", ["script", "--data-root", "somewhere"])
    main(measure, "What.")
    assert capsys.readouterr().out == table(MEASURED) + "\n"
    assert roots == ["somewhere", "somewhere"]


def test_options_of_a_script_reach_its_measure(capsys, monkeypatch):
    def measure(root, methods=("rtn",), images=5):
        return [Figure(f"{root}: {methods}", images)]

    def options(parser):
        parser.add_argument("methods", nargs="*")
        parser.add_argument("--images", type=int, default=7)

    monkeypatch.setattr(sys, "argv", ["script", "gptq", "--json", "--data-root", "somewhere"])
    main(measure, "What.", options)
    assert [Figure(**fields) for fields in json.loads(capsys.readouterr().out)] == [Figure("somewhere: ['gptq']", 7)]


def test_pairs_run_in_turn_after_one_unmeasured_run():
    calls = []
    times = paired(lambda: calls.append("a"), lambda: calls.append("b"), pairs=3)
    assert calls == ["a", "b"] * 4
    assert times.first > 0 < times.second


def test_an_unknown_group_is_refused(capsys, monkeypatch):
    from benchmarks import __main__ as command

    monkeypatch.setattr(sys, "argv", ["benchmarks", "speed"])
    with pytest.raises(SystemExit) as exit_:
        command.main()
    assert exit_.value.code == 2
    assert "unknown group 'speed': expected quantization, adaptation" in capsys.readouterr().err


def test_scripts_run_one_by_one_and_a_failure_is_named(capsys, monkeypatch):
    from benchmarks import __main__ as command

    def run(script, options, root):
        if script == "broken":
            raise command.subprocess.CalledProcessError(1, "python")
        return [Figure(script, 1.0)]

    monkeypatch.setattr(command, "GROUPS", {"some": (("first",), ("broken", "--much"), ("last",))})
    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(sys, "argv", ["benchmarks"])
    assert command.main() == 1
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["figure", "first", "last"]
    assert "broken: " in err


def test_a_script_without_figures_is_shown_as_it_comes(tmp_path, monkeypatch, capfd):
    from benchmarks import __main__ as command

    monkeypatch.setattr(command, "__file__", str(tmp_path / "__main__.py"))
    (tmp_path / "prints.py").write_text("import sys\nprint('--data-root', sys.argv[1:])")
    (tmp_path / "counts.py").write_text('def measure(): ...\nprint(\'[{"name": "n", "value": 1.5}]\')')
    assert command.run("prints", ("few",), "here") == []
    assert capfd.readouterr().out == "--data-root ['few', '--data-root', 'here']\n"
    assert command.run("counts", (), None) == [Figure("n", 1.5)]
    with pytest.raises(FileNotFoundError):
        command.run("absent", (), None)
