import json
from pathlib import Path

import jsonschema
import pytest
from _dummies.verdicts import fragile, good

from evalsuite import cli, registry
from evalsuite.study.file import read_raw
from evalsuite.study.schema import study_schema


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


@pytest.fixture(scope="module")
def studies():
    """The validator of study files."""
    known = study_schema()
    jsonschema.Draft202012Validator.check_schema(known)
    return jsonschema.Draft202012Validator(known)


def test_studies_that_ship_fit_the_schema_of_studies(studies):
    for name in registry.names("studies"):
        studies.validate(read_raw(Path(registry.load("studies", name))))


def quantizer(**table):
    return {"quantizer": [{"method": "rtn"} | table]}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"nmae": "x"}, []),
        (quantizer(method="rtm"), ["quantizer", 0, "method"]),
        (quantizer(range="mean"), ["quantizer", 0, "range"]),
        (quantizer(range=["mse", 3]), ["quantizer", 0, "range"]),
        ({"gate": {"points": "few"}}, ["gate", "points"]),
        ({"stream": [{"protocol": "calibration"}]}, ["stream", 0, "protocol"]),
    ],
)
def test_the_schema_of_studies_refuses_what_is_none(studies, change, where):
    raw = read_raw(Path(registry.load("studies", "quick"))) | change
    assert [list(error.absolute_path) for error in studies.iter_errors(raw)] == [where]


def test_the_schema_lets_a_grid_and_a_file_s_class_through(studies):
    raw = read_raw(Path(registry.load("studies", "quick")))
    studies.validate(
        raw | quantizer(method=["rtn", "mine.py:Mine"], strength=0.5, range=["mse", "kl"], engine="simulated")
    )


def test_an_editor_is_told_what_a_key_means(studies):
    properties = studies.schema["properties"]
    assert all(properties[key]["description"] for key in properties)
    assert "rtn" in properties["quantizer"]["items"]["properties"]["method"]["description"]
    assert all(one["description"] for one in properties["quantizer"]["items"]["properties"].values())


def test_another_schema_is_refused(capsys):
    assert cli.call(["schema", "verdic"]) == 2
    assert "did you mean 'verdict'" in capsys.readouterr().err
