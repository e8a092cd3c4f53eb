import json
from pathlib import Path

import pytest
from _dummies.verdicts import fragile, good

from evalsuite import cli, registry
from evalsuite.study.file import read_raw


def schema(name, capsys):
    assert cli.call(["schema", name]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_schema_of_a_verdict_has_every_key_of_one(capsys):
    known = schema("verdict", capsys)
    for verdict in (good(), fragile()):
        value = verdict.model_dump(mode="json")
        assert value.keys() == known["properties"].keys()
        assert set(known["required"]) <= value.keys()
        for claim in value["claims"]:
            assert claim.keys() == known["$defs"]["Claim"]["properties"].keys()


@pytest.mark.parametrize("name", registry.names("studies"))
def test_the_schema_of_a_study_has_every_key_of_those_that_ship(name, capsys):
    known = schema("study", capsys)["properties"]
    raw = read_raw(Path(registry.load("studies", name)))
    assert raw.keys() <= known.keys()
    kinds = {str: "string", list: "array", dict: "object", int: "integer"}
    assert {key: kinds[type(value)] for key, value in raw.items()} == {key: known[key]["type"] for key in raw}


def test_another_schema_is_refused(capsys):
    assert cli.call(["schema", "verdic"]) == 2
    assert "did you mean 'verdict'" in capsys.readouterr().err
