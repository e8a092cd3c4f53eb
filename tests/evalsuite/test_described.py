"""What a plugin says of its options, by the command and by the module behind it."""

import dataclasses
import json

import pytest

from evalsuite import cli, registry
from evalsuite.catalogue import bits_options
from evalsuite.described import describe, described, options_of
from evalsuite.quantizers.qdrop import QDrop
from evalsuite.study.tables import Analysis, Corruption, Diagnosis

KINDS = ("tasks", "quantizers", "adapters", "protocols", "figures")
PLUGINS = [(kind, name) for kind in KINDS for name in registry.names(kind)]


def test_every_option_of_every_plugin_has_its_type_default_and_text():
    for kind, name in PLUGINS:
        found = describe(kind, name)
        assert found.summary, name
        assert [option.name for option in found.options] == registry.option_names(kind, name)
        assert {o.name for o in found.options if o.default is None} == set(registry.required_options(kind, name))
        for option in found.options:
            assert len(option.text) > 2, (name, option.name)
            assert not option.text.startswith("see "), (name, option.name)
            assert ":class:" not in option.text
            if option.default is not None:  # as JSON, so that a default reads as a study would give it
                json.loads(option.default)

        _none_shares_its_text(found.options)


def test_every_key_of_the_bits_is_explained():
    assert all(option.text for option in bits_options())
    _none_shares_its_text(bits_options())


@pytest.mark.parametrize("table", [Analysis, Corruption, Diagnosis])
def test_every_key_of_a_table_is_explained(table):
    assert all(option.text for option in options_of(table))
    _none_shares_its_text(options_of(table))


def _none_shares_its_text(options):
    """An entry of several names is short to write and says of none of them what it is."""
    texts = [option.text for option in options]
    assert [text for text in texts if texts.count(text) > 1] == []


@dataclasses.dataclass(frozen=True)
class Explained:
    """First line, see :class:`evalsuite.quantizers.rtn.RoundToNearest`.

    What ``it`` does.

    Parameters
    ----------
    strength, weakness : in per
        cent; see :func:`a.b.held`.
    drop : see :class:`evalsuite.quantizers.qdrop.QDrop`; more than there.
    """

    strength: float
    weakness: int | None = None
    drop: float = 0.5


def test_texts_are_of_both_names_of_an_entry_and_references_are_followed():
    strength, weakness, drop = options_of(Explained)
    assert (strength.type, strength.default) == ("float", None)
    assert (weakness.type, weakness.default) == ("int | None", "null")
    assert strength.text == weakness.text == "in per cent; see `held`."
    of_qdrop = next(option.text for option in options_of(QDrop) if option.name == "drop")
    assert drop.text == f"{of_qdrop} More than there."
    assert described(Explained) == ("First line, see `RoundToNearest`.", "What `it` does.")


def test_list_with_a_name_says_the_options(capsys):
    assert cli.call(["list", "quantizers", "rtn"]) == 0
    text = capsys.readouterr().out
    assert 'beside [[quantizer]] method = "rtn"' in text
    assert 'default "mse"' in text
    assert "arXiv 2106.08295" in text
    assert cli.call(["list", "protocols", "continual", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {option["name"] for option in found["options"]} == set(registry.option_names("protocols", "continual"))
    assert cli.call(["list", "studies", "quick"]) == 0
    assert "quick.toml" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["quantizers", "rtm"], "did you mean 'rtn'"), (["corruptions", "fogg"], "did you mean 'fog'")],
)
def test_a_name_that_is_not_there_is_refused(arguments, said, capsys):
    assert cli.call(["list", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_shell_is_told_what_fits(monkeypatch, capsys):
    for name, value in {
        "_EVALSUITE_COMPLETE": "complete_bash",
        "COMP_WORDS": "evalsuite re",
        "COMP_CWORD": "1",
    }.items():
        monkeypatch.setenv(name, value)
    assert cli.call([]) == 0
    assert capsys.readouterr().out.split() == ["report"]
