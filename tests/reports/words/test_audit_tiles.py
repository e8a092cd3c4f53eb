from itertools import permutations
from typing import get_args

import pytest
from _dummies import verdicts
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.analysis.verdict import Question
from reports.words.audit_tiles import GLYPHS, UNFOLDED, difference, leading, short, signed, tile_line, tiles

TIMES = "\N{MULTIPLICATION SIGN}"
MINUS = "\N{MINUS SIGN}"


def gravest(claims, pair):
    own = {c.standing for c in claims if (c.condition.task, c.rival, c.condition.bits) == pair}
    return next(each for each in ("worse", "better", "not told apart", "not tested") if each in own)


@pytest.mark.parametrize("made", verdicts.ALL.values(), ids=verdicts.ALL)
def test_there_is_a_tile_for_every_question_and_a_line_for_every_rival_bits_and_task(made):
    verdict = made()
    found = tiles(verdict)
    assert [tile.question for tile in found] == list(get_args(Question))
    for tile in found:
        claims = [claim for claim in verdict.claims if claim.question == tile.question]
        pairs = {(claim.condition.task, claim.rival, claim.condition.bits) for claim in claims}
        assert len(tile.lines) == len(pairs) or (tile.question == "engine" and len(tile.lines) == 1)
        counted = [part.rpartition(" ") for part in tile.tally.split(", ")] if pairs else []
        assert {name: int(number) for name, _, number in counted} == {
            standing: number for standing in GLYPHS if (number := [gravest(claims, p) for p in pairs].count(standing))
        }
        assert pairs or tile.tally == "not asked"


def test_a_line_says_the_gravest_claim_with_its_condition_and_how_many_stand_so():
    tile = next(tile for tile in tiles(verdicts.fragile()) if tile.question == "adaptation")
    line = next(line for line in tile.lines if line.against == "rtn W8A8")
    assert (line.standing, line.glyph) == ("worse", "▼")
    assert line.difference == "+1.3 (0.1 to 2.5)"
    assert line.detail == "ttaq; worse in 1 of 4"


def test_worse_comes_before_better_and_both_before_what_is_not_told_apart():
    claims = [claim for claim in verdicts.hostile().claims if claim.question == "mean"]
    by_standing = {claim.standing: claim for claim in claims}
    worse, better = by_standing["worse"], by_standing["not told apart"].model_copy(update={"standing": "better"})
    for order in permutations([worse, better, by_standing["not told apart"]]):
        assert leading(order) is worse
        assert leading([each for each in order if each is not worse]) is better


def test_of_claims_that_stand_alike_the_largest_leads_whatever_its_sign():
    claim = verdicts.good().claims[0]
    sizes = [claim.model_copy(update={"estimate": size}) for size in (0.01, -0.03, 0.02)]
    assert leading(sizes).estimate == -0.03


def test_where_lines_are_folded_the_gravest_come_first():
    tile = next(tile for tile in tiles(verdicts.hostile()) if tile.question == "mean")
    assert len(tile.lines) > UNFOLDED
    assert [line.standing for line in tile.lines[:UNFOLDED]] == ["worse"] * UNFOLDED
    assert [line.weight for line in tile.lines] == sorted(line.weight for line in tile.lines)
    assert tile.gravest == "worse"


def test_a_tile_in_a_line_says_the_largest_of_the_gravest_and_the_tally():
    tile = next(tile for tile in tiles(verdicts.fragile()) if tile.question == "calibration")
    assert tile.lines[0].difference == "+2.9 (1.7 to 4.1)"
    detail = "(size 128, one class; worse in 3 of 3)"
    assert tile_line(tile) == f"Calibration set: ▼ worse than rtn W4A4 +17.8 (16.6 to 19.0) points {detail} [worse 4]"


def test_what_all_lines_share_is_said_once():
    tile = next(tile for tile in tiles(verdicts.fragile()) if tile.question == "worst class")
    assert tile.shared == "its worst: three, the rival's: nine"
    assert not any(line.detail for line in tile.lines)


def test_a_worst_group_of_both_is_named_once():
    claims = [claim.model_copy(update={"rival_group": claim.target_group}) for claim in verdicts.fragile().claims]
    tile = tiles(verdicts.fragile().model_copy(update={"claims": claims}))[1]
    assert tile.shared == "worst of both: three"


def test_what_is_not_tested_stands_beside_what_is_and_counts_with_none_of_it():
    verdict = verdicts.fragile()
    claims = [claim for claim in verdict.claims if claim.question == "adaptation"]
    spread = claims[0].model_copy(update={"standing": "not tested", "estimate": None, "note": "spread 1.2 points"})
    changed = verdict.model_copy(update={"claims": [*claims, spread]})
    line = next(tile for tile in tiles(changed) if tile.question == "adaptation").lines[0]
    assert line.standing == "worse"
    assert line.detail == "ttaq; worse in 1 of 4; spread 1.2 points"


def test_what_is_not_tested_against_anyone_is_one_line():
    tile = next(tile for tile in tiles(verdicts.good()) if tile.question == "engine")
    assert [(line.standing, line.against) for line in tile.lines] == [("not tested", "any rival")]
    assert (tile.tally, tile.shared) == ("not tested 4", "both are simulated")


def test_every_cost_is_shown():
    tile = next(tile for tile in tiles(verdicts.good()) if tile.question == "cost")
    text = f"{tile.lines[0].difference}; {tile.shared}".replace("\N{NO-BREAK SPACE}", " ")
    assert text == f"{TIMES} 1.8 (1.26 / 0.7); seconds to quantize; seconds an image {TIMES} 1"


def test_a_cost_is_a_ratio_and_no_difference_in_points():
    claim = next(claim for claim in verdicts.good().claims if claim.question == "cost")
    assert difference(claim).replace("\N{NO-BREAK SPACE}", " ") == f"{TIMES} 1.8 (1.26 / 0.7)"
    assert difference(claim.model_copy(update={"estimate": None})) == ""


@given(st.floats(-1, 1))
def test_a_signed_number_has_the_sign_of_what_is_shown(fraction):
    text = signed(fraction)
    shown = float(text.replace(MINUS, "-"))
    assert abs(shown - 100 * fraction) <= 0.05 + 1e-9
    assert text[0] == {1: "+", 0: "0", -1: MINUS}[(shown > 0) - (shown < 0)]


@given(st.text(max_size=120), st.integers(5, 60))
def test_a_shortened_name_keeps_both_ends(name, most):
    found = short(name, most)
    assert len(found) <= most
    assert found == name if len(name) <= most else (found[0], found[-1]) == (name[0], name[-1])
