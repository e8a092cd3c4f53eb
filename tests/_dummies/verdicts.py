"""Verdicts as audits make them: of a good method, a fragile one, a broken one, and of one with hostile names."""

from collections.abc import Iterator
from typing import Any

from evalsuite.analysis.verdict import (
    Baselines,
    Claim,
    Condition,
    Conformance,
    Cost,
    Gate,
    GroupDrop,
    Need,
    Rank,
    Trials,
    Verdict,
)

TASK = "digits/resnet"
RIVALS = ("rtn", "brecq")
BITS = ("W8A8", "W4A4")
FIRST, SHIFTED = "size 128", ("size 16", "size 128, gaussian_noise 3", "size 128, one class")
ADAPTERS = ("bn_adapt", "tent", "zoa", "ttaq")
STREAM, SKEWED = "continual", "continual, label-skewed"
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HOSTILE = "<script>alert(1)</script><b>&\"'$x_1$"
ESCAPES = "red\x1b[31m\u202etxt\nline"
VERSIONS = {"evalsuite": "0.9.0", "numpy": "2.4.0", "opencv-python": "5.0.0", "torch": "2.12.0"}
HARDWARE = {"machine": "x86_64", "cores": 2, "threads": 2, "memory_bytes": 8 * 2**30}


def _claims(estimates: dict[str, float], rivals: tuple[str, ...], bits: tuple[str, ...], task: str) -> Iterator[Claim]:
    """Yield the claims of every question; ``estimates``: of W4A4 by question, an eighth of it at other widths."""
    own = {
        "mean": [(FIRST, "none", STREAM)],
        "worst class": [(FIRST, "none", STREAM)],
        "calibration": [(each, "none", STREAM) for each in SHIFTED],
        "noise": [(FIRST, "none", STREAM)],
        "adaptation": [(FIRST, each, STREAM) for each in ADAPTERS],
        "streams": [(FIRST, each, SKEWED) for each in ("none", "bn_adapt")],
    }
    for question, conditions in own.items():
        for width in bits:
            for place, rival in enumerate(rivals):
                for number, (calibration, adapter, stream) in enumerate(conditions):
                    yield _claim(
                        question,
                        Condition(task=task, bits=width, calibration=calibration, adapter=adapter, stream=stream),
                        rival,
                        _share(estimates.get(question, 0.0), width, place) + 0.004 * number,
                    )
    for width in bits:
        for rival in rivals:
            condition = Condition(task=task, bits=width)
            slow = rival != rivals[0]
            yield _ratio(condition, rival, 1.26, 30.0 if slow else 0.7, "seconds to quantize")
            yield _ratio(condition, rival, 0.0021, 0.0021, "seconds an image")
            yield Claim(
                question="engine", condition=condition, rival=rival, standing="not tested", note="both are simulated"
            )


def _ratio(condition: Condition, rival: str, own: float, other: float, note: str) -> Claim:
    return Claim(
        question="cost",
        condition=condition,
        rival=rival,
        standing="not tested",
        estimate=own / other,
        target_value=own,
        rival_value=other,
        unit="second",
        note=note,
    )


def _share(estimate: float, width: str, place: int) -> float:
    """Return a difference of W4A4 at another width, an eighth, and against a rival as good as the target, a tenth."""
    return estimate * (1 if width == "W4A4" else 0.125) * (0.1 if place == 1 and estimate < 0 else 1)


def _claim(question: Any, condition: Condition, rival: str, estimate: float) -> Claim:
    half = 0.06 if question in ("worst class", "noise") else 0.012
    apart = abs(estimate) > half
    groups = {"worst class": CLASSES, "noise": ("gaussian_noise", "contrast", "fog")}.get(question, ())
    p = 0.0004 if apart else 0.31
    need = Need(size=max(abs(estimate), 0.01), power=0.8, images=2400, most_images=100_000, draws=None, most_draws=64)
    return Claim(
        question=question,
        condition=condition,
        rival=rival,
        standing=("worse" if estimate > 0 else "better") if apart else "not told apart",
        estimate=estimate,
        low=estimate - half,
        high=estimate + half,
        p=p,
        p_holm=min(1.0, 4 * p),
        test="Wilcoxon over domains and exchange within images",
        unit="domain",
        n=16,
        target_value=0.214 + estimate,
        rival_value=0.214,
        target_group=groups[3 % len(groups)] if groups else "",
        rival_group=groups[-1] if groups else "",
        need=None if apart else need,
    )


def _drops(ruined: float, bits: tuple[str, ...], task: str, classes: tuple[str, ...]) -> list[GroupDrop]:
    """Return the losses of every class, of domains and calibration sets; ``ruined``: of the fourth class at W4A4."""
    found = []
    for width in bits:
        scale = 1.0 if width == "W4A4" else 0.1
        condition = Condition(task=task, bits=width, calibration=FIRST, adapter="none", stream=STREAM)
        for place, name in enumerate(classes):
            drop = scale * (ruined if place == 3 else 0.03 + 0.004 * ((7 * place) % 5))
            shown = drop > 0.1
            found.append(
                GroupDrop(
                    kind="class",
                    name=name,
                    condition=condition,
                    drop=drop,
                    low=drop - 0.03,
                    high=drop + 0.03,
                    by_chance=0.062 * scale,
                    p_holm=0.0006 if shown else 0.8,
                    shown=shown,
                )
            )
        for place, name in enumerate(("gaussian_noise", "fog", "contrast")):
            found.append(
                GroupDrop(
                    kind="domain",
                    name=name,
                    condition=condition,
                    drop=scale * (0.05 + 0.01 * place),
                    low=scale * 0.03,
                    high=scale * 0.1,
                    by_chance=0.09 * scale,
                    p_holm=0.5,
                    shown=False,
                )
            )
        found.append(
            GroupDrop(
                kind="calibration",
                name=SHIFTED[2],
                condition=condition.model_copy(update={"calibration": SHIFTED[2]}),
                drop=0.5 * ruined * scale,
                low=0.4 * ruined * scale,
                high=0.6 * ruined * scale,
                p_holm=0.004,
                shown=ruined * scale > 0.1,
            )
        )
    return sorted(found, key=lambda each: (not each.shown, -each.drop))


CHECKS = (
    Conformance(name="the same seed gives the same bits", outcome="pass", spoils_numbers=True),
    Conformance(name="weights have the levels that their bits allow", outcome="pass", spoils_numbers=True),
    Conformance(name="the source model is untouched", outcome="pass", spoils_numbers=True),
    Conformance(
        name="one image is enough, or refused",
        outcome="fail",
        message="ValueError: Expected more than 1 value per channel",
        mend="raise evalsuite.errors.Refused where there are too few images",
    ),
    Conformance(
        name="state can be saved and loaded", outcome="not applicable", message="it has no method restore", mend=""
    ),
)
SPOILT = Conformance(
    name="bits are honoured",
    outcome="fail",
    message="a weight of layer1.conv has 4,608 values where 4 bits allow 16",
    mend="round the weights in prepare(), not only the activations",
    spoils_numbers=True,
)


def _verdict(estimates: dict[str, float], ruined: float, **changes: Any) -> Verdict:
    rivals, bits = changes.pop("rivals", RIVALS), changes.pop("bits", BITS)
    tasks, classes = changes.pop("tasks", (TASK,)), changes.pop("classes", CLASSES)
    facts: dict[str, Any] = {
        "target": "mine.py:Mine",
        "target_label": "mine",
        "options": {"strength": 0.7},
        "source_digest": "9f2c" * 16,
        "profile": "quick",
        "command": "evalsuite audit mine.py:Mine --profile quick --option target.strength=0.7",
        "reached": True,
        "summary": "mine errs less on average than rtn at W4A4 and is not told apart from brecq.",
        "conformance": list(CHECKS),
        "rivals": list(rivals),
        "bits": list(bits),
        "tasks": {task: {"images": "ab12" * 16, "weights": "cd34" * 16} for task in tasks},
        "seeds": [0, 1, 2, 3, 4],
        "versions": VERSIONS,
        "hardware": HARDWARE,
        "level": 0.05,
        "claims": [claim for task in tasks for claim in _claims(estimates, rivals, bits, task)],
        "drops": [drop for task in tasks for drop in _drops(ruined, bits, task, classes)],
        "ranks": [rank for task in tasks for rank in _ranks(rivals, bits, task)],
        "costs": [cost for task in tasks for cost in _costs(rivals, bits, task)],
        "trials": Trials(done=88, failed=0, refused=2, reasons=["ttaq adapts its own networks alone"]),
        "baselines": Baselines(origin="ships with evalsuite", trials=176, versions=VERSIONS, hardware=HARDWARE),
        "gates": [Gate(expression="worst_class_drop > 5", value=ruined * 100, failed=ruined > 0.05)],
        "left_out": ["engine: no integer engine runs this network here", "streams: the recurring order is not asked"],
    }
    return Verdict(**facts | changes)


def _ranks(rivals: tuple[str, ...], bits: tuple[str, ...], task: str) -> Iterator[Rank]:
    for width in bits:
        condition = Condition(task=task, bits=width, calibration=FIRST, adapter="none", stream=STREAM)
        for place, method in enumerate(("mine", *rivals)):
            yield Rank(
                condition=condition,
                method=method,
                is_target=place == 0,
                mean_rank=1.4 + place,
                best=max(1, place),
                worst=place + 2,
                error=0.2 + 0.01 * place,
            )


def _costs(rivals: tuple[str, ...], bits: tuple[str, ...], task: str) -> Iterator[Cost]:
    for width in bits:
        for place, method in enumerate(("mine", *rivals)):
            yield Cost(
                condition=Condition(task=task, bits=width),
                method=method,
                is_target=place == 0,
                engine="simulated",
                quantize_seconds=(1.26, 0.7, 30.0)[place % 3],
                seconds_per_image=0.0021,
                peak_bytes=210 * 2**20,
            )


def good() -> Verdict:
    """A method that errs less than one rival and is not told apart from the other."""
    return _verdict({"mean": -0.014, "worst class": -0.03, "calibration": 0.002, "noise": -0.02}, 0.04)


def fragile() -> Verdict:
    """The lowest mean error, and one class ruined: ``three`` at W4A4."""
    return _verdict(
        {"mean": -0.021, "worst class": 0.38, "calibration": 0.17, "noise": 0.03, "adaptation": 0.009},
        0.45,
        target="fragile.py:Fragile",
        target_label="fragile",
        summary="fragile has a lower mean error than rtn at W4A4 (2.1 points), but ruins class three: 45.0 points more "
        "errors than full precision, where chance would give 6.2 (p < 0.001). With a calibration set of one class it "
        "loses 22.5 points. Its worst class is worse than that of both rivals.",
    )


def broken() -> Verdict:
    """A method that ignores its bits: no verdict."""
    return _verdict(
        {},
        0.0,
        target="broken.py:Broken",
        target_label="broken",
        reached=False,
        reasons=["the check 'bits are honoured' failed, so that its errors are not those of 4 bits"],
        summary="No verdict: the method keeps its weights in full precision, whatever bits it is given.",
        conformance=[CHECKS[0], SPOILT, *CHECKS[2:]],
        claims=[],
        drops=[],
        ranks=[],
        costs=[],
        gates=[],
        trials=Trials(done=0, failed=0, refused=0),
        baselines=None,
    )


def lost() -> Verdict:
    """No trial of the target is done: no verdict, with reasons."""
    reasons = ["killed after 60 s: it did not return", "wrote 4.1 GB: more than --memory-limit allows"]
    changes: dict[str, Any] = {"claims": [], "drops": [], "ranks": [], "costs": [], "baselines": None, "gates": []}
    trials = Trials(done=0, failed=88, refused=2, reasons=reasons)
    changes |= {"conformance": list(CHECKS), "reasons": ["no trial of the target is done"], "trials": trials}
    return broken().model_copy(update=changes | {"summary": "No verdict: the target gave no result at all."})


def hostile() -> Verdict:
    """Markup, mathematics and long words for names; many rivals, tasks and classes."""
    rivals = tuple(f"{HOSTILE} {number}" for number in range(5))
    long = "averyverylongwordwithoutanyplacetobreak" * 3
    return _verdict(
        {"mean": 0.03, "worst class": 0.2, "calibration": -0.1, "noise": 0.1, "adaptation": -0.03, "streams": 0.02},
        0.3,
        target=f"{HOSTILE}.py:{HOSTILE}",
        target_label=f"{HOSTILE} {ESCAPES} {long}",
        options={HOSTILE: [HOSTILE], "deep": {HOSTILE: None}},
        command=f"evalsuite audit '{HOSTILE}' {long}",
        summary=f"{HOSTILE} {ESCAPES} {long}",
        rivals=rivals,
        tasks=("digits/resnet", f"folder {HOSTILE}", long),
        classes=tuple(f"{HOSTILE} {number} {long}" for number in range(40)),
        conformance=[
            Conformance(name=HOSTILE, outcome="fail", message=f"{HOSTILE} {long}", mend=f"{HOSTILE} {ESCAPES}")
        ],
        versions={HOSTILE: HOSTILE},
        hardware={HOSTILE: {HOSTILE: [1.0]}},
        trials=Trials(done=1, failed=2, refused=3, reasons=[HOSTILE, ESCAPES, long]),
        baselines=Baselines(origin=f"/{HOSTILE}/{long}", trials=3, versions={HOSTILE: long}, hardware={}),
        gates=[Gate(expression=HOSTILE, value=None, failed=False)],
        left_out=[HOSTILE, long],
    )


def bare() -> Verdict:
    """As little as a verdict can say: reached, with nothing in any list."""
    empty: dict[str, Any] = {name: [] for name in ("claims", "drops", "ranks", "costs", "conformance", "left_out")}
    return good().model_copy(
        update={**empty, "gates": [], "baselines": None, "rivals": [], "summary": "", "tasks": {}, "options": {}}
    )


ALL = {"good": good, "fragile": fragile, "broken": broken, "lost": lost, "hostile": hostile, "bare": bare}
