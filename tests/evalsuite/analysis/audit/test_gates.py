import pytest
from _dummies.verdicts import fragile

from evalsuite.analysis.audit.gates import VALUES, check_gates, gates_of
from evalsuite.errors import RequestError


def test_a_gate_compares_percentage_points():
    verdict = fragile()
    worst = 100 * max(drop.drop for drop in verdict.drops if drop.kind == "class")
    above, below = gates_of(verdict, [f"worst_class_drop > {worst + 1:.3f}", f"worst_class_drop>{worst - 1:.3f}"])
    assert (above.failed, below.failed) == (False, True)
    assert above.value == pytest.approx(worst)


def test_every_value_is_a_number_or_unknown_and_what_is_unknown_has_failed():
    verdict = fragile().model_copy(update={"claims": [], "drops": []})
    for gate in gates_of(verdict, [f"{name} > 1000000" for name in VALUES]):
        assert gate.failed == (gate.value is None), gate
    assert gates_of(verdict, ["error < 5"])[0].failed


@pytest.mark.parametrize("text", ["", "worst_class_drop", "worst_class_drop = 5", "error > x", "5 < error"])
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(RequestError, match="expected NAME > NUMBER"):
        check_gates([text])


def test_an_unknown_value_is_refused_with_the_nearest():
    with pytest.raises(RequestError, match="worst_class_drop"):
        check_gates(["worst_clas_drop > 5"])
