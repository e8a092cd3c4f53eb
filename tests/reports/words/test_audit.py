import re

from evalsuite.analysis.contests import contests_of
from evalsuite.store import Run
from reports.frames.evidence import evidence
from reports.words.audit import findings


def test_a_sentence_a_contest_and_nothing_claimed_that_is_not_shown(study_run: Run) -> None:
    sentences = findings(study_run, "rtn")
    labels = set(study_run.trials.loc[study_run.trials["quantizer"] == "rtn", "quantizer_label"])
    contests = contests_of(evidence(study_run).comparisons, labels)
    assert len(contests) > 0
    for row in contests.itertuples():
        pattern = re.compile(rf"{row.target} (is .*|against ){re.escape(row.rival)}: ")
        about = [sentence for sentence in sentences if pattern.match(sentence)]
        claimed = any(" is worse than " in sentence or " is better than " in sentence for sentence in about)
        pairs = contests[(contests["target"] == row.target) & (contests["rival"] == row.rival)]
        assert about
        assert claimed == pairs["shown"].any()
    assert sum(" after Holm over " in sentence for sentence in sentences) == contests["p_holm"].notna().sum()


def test_every_setting_of_the_target_is_held_against_full_precision(study_run: Run) -> None:
    summary = evidence(study_run).summary
    own = summary[summary["quantizer_label"].str.startswith("rtn ")]
    claim = "more errors than full precision on average"
    harmed = [sentence for sentence in findings(study_run, "rtn") if claim in sentence]
    assert len(harmed) == own["worst_drop_class_p"].notna().sum()
    beyond = sum(", more than chance alone gives" in sentence for sentence in harmed)
    assert beyond == own["worst_drop_class_shown"].sum()
