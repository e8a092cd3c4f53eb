from __future__ import annotations

import pytest
from _dummies import plugins

from evalsuite.errors import RequestError
from evalsuite.groups import chosen_groups, parts
from evalsuite.running.harness import execute
from evalsuite.study.file import parse


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ((), ("class", "domain", "site", "lens")),
        (("class", "domain", "site", "class x site"), ("class", "domain", "site", "class x site")),
        (("class x severity",), ("class", "domain", "class x severity")),
        (("size x width",), ("class", "domain", "size x width")),
        (("family", "class x size x width"), None),
    ],
)
def test_groups_are_class_and_domain_and_what_is_asked_for_or_the_tasks_own(asked, found):
    own = [("site", "class"), ("lens", "site"), ("size x width",)]
    if found is None:
        with pytest.raises(RequestError, match=r"unknown group column in .analysis. groups 'size'"):
            chosen_groups(asked, own)
    else:
        assert [group for group in chosen_groups(asked, own) if asked or group != "size x width"] == list(found)


def test_a_name_that_holds_the_sign_of_a_product_is_one_column_where_there_is_such():
    assert parts("size x width") == ["size", "width"]
    assert parts("size x width", ["size x width"]) == ["size x width"]


@pytest.mark.parametrize(
    ("asked", "wording"),
    [
        (["sight"], "did you mean 'site'"),
        (["class x sight"], "unknown group column in .analysis. groups 'sight'"),
        (["site x lens"], "a task that has all of its columns"),
        (["site", "drop_class"], "two of them make the column 'worst_drop_class'"),
    ],
)
def test_groups_that_no_task_has_are_refused(asked, wording):
    with pytest.raises(RequestError, match=wording):
        chosen_groups(asked, [("site", "drop_class"), ("lens",)])


@pytest.mark.parametrize(
    "groups", [[""], ["class x "], ["a x a"], ["class x site", "site x class"], ["a", "a"], "a", [1]]
)
def test_a_study_refuses_what_is_no_list_of_groups(groups):
    with pytest.raises(RequestError, match="groups"):
        parse(raw(groups))


def test_a_study_names_its_groups():
    assert parse(raw(["class", "site x class"])).analysis.groups == ("class", "site x class")
    assert parse(raw([])).analysis.groups == ()


def raw(groups):
    return {
        "name": "small",
        "tasks": [plugins.TASK],
        "calibration": [{"protocol": "calibration", "size": 4}],
        "quantizer": [{"method": "full_precision"}],
        "adapter": [{"method": "none"}],
        "stream": [{"protocol": "continual", "images": 4, "corruptions": ["fog"]}],
        "analysis": {"groups": groups},
    }


def test_an_unknown_column_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(RequestError, match=r"unknown group column in .analysis. groups 'hospital'"):
        execute(parse(raw(["class x hospital"])), tmp_path / "run")
    assert not (tmp_path / "run").exists()
