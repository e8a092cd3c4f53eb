"""How the numbers of each column are made: one place for all tables of a run's page, by what a column holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evalsuite.adaptation.collapse import SHARE, WINDOW
from evalsuite.analysis.claims import LEVEL
from reports.words.numbers import CONFIDENCE_PERCENT


@dataclass(frozen=True)
class How:
    """How a number is made."""

    text: str
    """One sentence."""
    unit: str
    """The unit of replication; empty where nothing is estimated."""
    anchor: str
    """The entry of "How the numbers are made" that says more, if one does."""


_IMAGE, _DOMAIN, _TRIAL = "test image", "domain", "trial"
_INTERVAL = f"with a {CONFIDENCE_PERCENT} % interval over test images and, where there are several, calibration draws"
_AT_ONCE = f"with a {CONFIDENCE_PERCENT} % interval that holds for all groups at once"

COLUMNS: Mapping[str, How] = {
    # what a row is
    "network": How("The quantizer with its bits, and its calibration set where it saw several.", "", "how-bits"),
    "adapter": How("The method that adapts the network to the stream while it is shown.", "", "how-adaptation"),
    "task": How("A data set with its trained network.", "", ""),
    "stream": How("The order in which the test images are shown, and how they are corrupted.", "", ""),
    # means
    "error": How(f"Share of the images shown that are predicted wrongly, {_INTERVAL}.", _IMAGE, "how-error"),
    "drop": How(
        f"Error minus that of full precision without adaptation on the same images, {_INTERVAL} of the pairs.",
        _IMAGE,
        "how-error",
    ),
    "ece": How(
        "Expected calibration error (ECE): mean distance between how sure the network is and how often it is right, "
        "over 15 bins of equal width; without an interval.",
        _IMAGE,
        "how-ece",
    ),
    "seeds": How("Calibration draws of which all other numbers of the row are pooled.", "", "how-interval"),
    "images": How("Images that one draw shows, each corruption of a test image being one.", "", "how-group"),
    # worst groups
    "worst_drop": How("The group whose error rises most against full precision.", _IMAGE, "how-group"),
    "worst_drop_value": How(
        f"Drop of that group, {_AT_ONCE}; larger than on other images, for it was picked as the largest.",
        _IMAGE,
        "how-interval",
    ),
    "worst_drop_null": How(
        "Mean of the largest drop where images are exchanged between groups: what chance alone gives.",
        _IMAGE,
        "how-chance",
    ),
    "worst_drop_p": How(
        "Share of these exchanges whose largest drop reaches the observed one, corrected by Holm over the networks.",
        _IMAGE,
        "how-holm",
    ),
    "worst": How("The group with the highest error, which may be hard at full precision too.", _IMAGE, "how-group"),
    "worst_error": How("Error of that group; picked as the highest, and without an interval.", _IMAGE, "how-error"),
    "cvar": How(
        "Conditional value at risk (CVaR): mean error of that share of the groups that have the highest.",
        "group",
        "how-cvar",
    ),
    "worst_size": How("Rows of the group with the highest error, over all draws.", "", "how-group"),
    # adaptation and its cost
    "unadapted_error": How("Error of the same network on the same stream without adaptation.", _IMAGE, "how-error"),
    "adapted_error": How("Error of the network with the adapter.", _IMAGE, "how-error"),
    "adapted_difference": How(
        f"Error with the adapter minus error without it, on the same images, {_INTERVAL}.", _IMAGE, "how-adaptation"
    ),
    "adapted_p": How(
        "Wilcoxon's signed-rank test, or McNemar's where every image was shown once, corrected by Holm over the "
        "adapters of one network on one stream.",
        _DOMAIN,
        "how-comparisons",
    ),
    "seconds_ratio": How(
        "Time an image with the adapter over that without, both simulated; not tested.", _TRIAL, "how-cost"
    ),
    "collapsed": How(
        f"Trials in which one class was predicted for over {100 * SHARE:g} % of {WINDOW} images in a row that show "
        "more classes.",
        _TRIAL,
        "how-adaptation",
    ),
    "moved": How("Modules whose parameters the adapter changed in any trial.", "", "how-adaptation"),
    "hit_rate": How(
        "Share of the changes of domain that the adapter reported with the first batch that shows the new one.",
        "change of domain",
        "how-adaptation",
    ),
    "false_alarm_rate": How(
        "Share of the other batches it judged in which it reported a change.", "batch", "how-adaptation"
    ),
    "forwards": How("Passes of a batch through the whole network, the adapter's own included.", _TRIAL, "how-cost"),
    "backwards": How("Passes of a batch back through the whole network.", _TRIAL, "how-cost"),
    "seconds_per_image": How(
        "Time of the simulated network and its adapter, no engine's: compare within this table only.",
        _TRIAL,
        "how-cost",
    ),
    "adapted_parameters": How("Parameters that the adapter may change, the most of any trial.", "", "how-cost"),
    "state_bytes": How("Bytes that the adapter keeps beside the network, the most of any trial.", "", "how-cost"),
    # comparisons and ranks
    "pair": How("One of the two that are compared on the same images.", "", "how-comparisons"),
    "question": How(
        "What the comparison asks, and what both have in common; p is corrected over all that ask the same.",
        "",
        "how-holm",
    ),
    "difference": How(f"Error of the first minus error of the second, {_INTERVAL}.", _IMAGE, "how-comparisons"),
    "test": How(
        "The test, and how many units it used: Wilcoxon's signed-rank test over domains, McNemar's over images.",
        "domain, or test image",
        "how-comparisons",
    ),
    "p_holm": How(
        f"p of that test after Holm's correction; below {LEVEL:g}, and with an interval without 0, it is a claim.",
        "domain, or test image",
        "how-holm",
    ),
    "effect": How(
        "Matched-pairs rank-biserial correlation, from \N{MINUS SIGN}1 to 1, or of McNemar's test Cohen's g.",
        "domain, or test image",
        "how-comparisons",
    ),
    "note": How("What a reader of the row must know, such as too few domains for a small p.", "", "how-comparisons"),
    "method": How("What is ranked: a quantizer, or an adapter.", "", "how-rankings"),
    "context": How("What all methods ranked against each other have in common.", "", "how-rankings"),
    "mean_rank": How("Mean over domains of the place by error, 1 being the lowest.", _DOMAIN, "how-rankings"),
    "critical_difference": How(
        f"Mean ranks have to be farther apart than this to differ at {100 * LEVEL:g} % (Nemenyi); images have to tell "
        "the two apart as well.",
        _DOMAIN,
        "how-rankings",
    ),
    "friedman_p": How(
        "Whether all methods are alike: the larger p of Friedman's test over domains and Cochran's Q over images; "
        "uncorrected.",
        "domain, and test image",
        "how-rankings",
    ),
    "over": How("How many units the ranks are means of.", _DOMAIN, "how-rankings"),
    # trials without a result
    "seed": How("The seed of the trial's calibration draw and stream.", "", "how-interval"),
    "status": How("Whether it failed, and is tried again, or was refused by a method.", "", ""),
    "reason": How("What the method, or the machine, said.", "", ""),
    # the first screen
    "chance": How(
        "What the largest drop of a class can be by chance alone, after Holm's correction over the networks.",
        _IMAGE,
        "how-chance",
    ),
}
"""By the name of what a column holds."""
