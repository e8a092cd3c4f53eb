"""What an audit says of the examples: the ruined class by name, and nothing against the method that holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from evalsuite import store
from evalsuite.analysis.audit import Request, verdict_of
from evalsuite.registry import configure
from evalsuite.running.harness import execute
from evalsuite.study.audit import AuditRequest, audit_study

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALLER = (
    "seeds=[0, 1, 2]",
    'adapter=[{method = "none"}]',
    'stream=[{protocol = "continual", images = 200, corruptions = ["clean", "speckle_noise", "spatter", "saturate"]}]',
    'calibration=[{protocol = "calibration", size = 128}]',
    "exclude=[]",
)


def verdict(target, folder):
    setting = configure("quantizers", f"{EXAMPLES / target}")
    request = AuditRequest(setting, target, against=("rtn",), bits=("W4A4",), overrides=SMALLER)
    execute(audit_study(request), folder, in_process=True, device="cpu", console=Console(quiet=True))
    return verdict_of(store.load(folder), Request(setting, target, "quick"))


@pytest.mark.slow
def test_the_class_that_fragile_ruins_is_named_first(tmp_path):
    found = verdict("fragile.py:Fragile", tmp_path)
    worst = found.drops[0]
    assert (worst.kind, worst.shown) == ("class", True)
    assert worst.p_holm < 0.01
    assert worst.drop > 0.3
    assert f"Breaks class {worst.name} at W4A4" in found.summary
    (claim,) = [claim for claim in found.claims if claim.question == "worst class"]
    assert claim.target_group == worst.name
    assert claim.p < 0.05


@pytest.mark.slow
def test_nothing_is_claimed_against_the_good_method(tmp_path):
    found = verdict("good.py:BiasCorrected", tmp_path)
    assert found.reached
    assert {claim.standing for claim in found.claims if claim.question in ("mean", "worst class", "noise")} <= {
        "not told apart",
        "better",
    }
    assert not [drop for drop in found.drops if drop.kind == "class" and drop.shown]
