import pytest
from _dummies import verdicts

from evalsuite.analysis.verdict import Claim, Condition
from reports.frames.audit import DIFFERENCE_COLUMNS, LOSS_COLUMNS, differences, flat, losses, questions


def test_every_claim_is_a_row_of_its_question_with_its_condition():
    verdict = verdicts.fragile()
    found = questions(verdict)
    assert sum(map(len, found.values())) == len(verdict.claims)
    for question, frame in found.items():
        claims = [claim for claim in verdict.claims if claim.question == question]
        for field in Condition.model_fields:
            assert list(frame[field]) == [getattr(claim.condition, field) for claim in claims]
        assert list(frame["p_holm"].dropna()) == [claim.p_holm for claim in claims if claim.p_holm is not None]
    assert list(flat([], Claim).columns) == list(found["mean"].columns)


def test_differences_are_those_of_mean_and_worst_class_in_points():
    verdict = verdicts.fragile()
    frame = differences(verdict)
    claims = [claim for claim in verdict.claims if claim.question in ("mean", "worst class")]
    assert list(frame["estimate"]) == pytest.approx([100 * claim.estimate for claim in claims])
    assert list(frame["standing"]) == [claim.standing for claim in claims]
    without = [claim.model_copy(update={"low": None}) for claim in claims]
    assert differences(verdict.model_copy(update={"claims": without})).empty
    assert list(differences(verdicts.bare()).columns) == list(DIFFERENCE_COLUMNS)


def test_losses_are_of_one_condition_the_largest_first_with_the_ruined_class():
    frame = losses(verdicts.fragile())
    assert frame["name"].iloc[0] == "three"
    assert frame["drop"].is_monotonic_decreasing
    assert set(frame["bits"]) == {"W4A4"}
    assert frame["drop"].iloc[0] == pytest.approx(45.0)
    assert set(frame["number"]) == {len(verdicts.CLASSES)}


def test_of_many_classes_the_largest_losses_are_kept_and_their_number_is_known():
    frame = losses(verdicts.hostile(), most=16)
    assert len(frame) == 16
    assert set(frame["number"]) == {40}


def test_without_classes_domains_are_shown_and_calibration_sets_never():
    verdict = verdicts.fragile()
    drops = [drop for drop in verdict.drops if drop.kind != "class"]
    assert set(losses(verdict.model_copy(update={"drops": drops}))["kind"]) == {"domain"}
    drops = [drop for drop in drops if drop.kind == "calibration"]
    none = losses(verdict.model_copy(update={"drops": drops}))
    assert none.empty
    assert list(none.columns) == list(LOSS_COLUMNS)
