"""How often an audit tells a method apart from itself under another name.

A copy whose arithmetic and draws are those of its rival gives the same predictions and is never told apart. Here it
gets calibration draws of its own: an audit compares the draws of some seeds with those of others of the same method,
as if they were two methods. Every claim is an error; one audit in twenty may make one in a question.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from report import Figure, main, note
from rich.console import Console

from evalsuite.analysis._settings import Settings
from evalsuite.analysis.audit.claims import claims_of
from evalsuite.analysis.audit.contests import Contest
from evalsuite.analysis.outcomes import Combination, read_outcomes
from evalsuite.analysis.verdict import Question
from evalsuite.running.harness import execute
from evalsuite.store import load
from evalsuite.study.file import parse

QUESTIONS: tuple[Question, ...] = ("mean", "worst class", "noise")


def measure(data_root: str | None, audits: int = 20, draws: int = 5, bits: str = "W4A4") -> list[Figure]:
    raw = {
        "name": "audit_level",
        "tasks": ["digits/resnet"],
        "seeds": list(range(2 * audits * draws)),
        "calibration": [{"protocol": "calibration", "size": 128}],
        "quantizer": [{"method": "full_precision"}, {"method": "rtn", "range": "mse", "bits": bits}],
        "adapter": [{"method": "none"}],
        "stream": [{"protocol": "continual", "images": 300, "clean_first": True}],
        "analysis": {"permutations": 4000, "bootstrap": 2000},
    }
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        execute(parse(raw), out, workers=0, data_root=data_root, console=Console(stderr=True))
        run = load(out)
        outcomes, settings = read_outcomes(run), Settings.of(run)
    (network,) = [each for each in outcomes.combinations if not each.is_reference]
    told = dict.fromkeys(QUESTIONS, 0)
    for number in range(audits):
        target, rival = (_part(network, 2 * number + side, draws, name) for side, name in enumerate(("copy", "rtn")))
        for claim in claims_of(outcomes, [Contest(question, target, rival) for question in QUESTIONS], settings):
            told[claim.question] += claim.standing in ("better", "worse")
        note(f"audit {number + 1} of {audits}: {told}")
    return [
        Figure(f"audits that tell a copy apart, {question}", count, f"of {audits}", at_most=max(1, audits // 20))
        for question, count in told.items()
    ]


def _part(network: Combination, part: int, draws: int, name: str) -> Combination:
    """Return some draws of a network under a name of its own, numbered from 0."""
    outcomes = {seed: network.outcomes[part * draws + seed] for seed in range(draws)}
    return replace(network, quantizer=f"{name} {network.facts['bits']}", outcomes=outcomes)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--audits", type=int, default=20)
    parser.add_argument("--draws", type=int, default=5, help="calibration draws of either side")
    parser.add_argument("--bits", default="W4A4")


if __name__ == "__main__":
    main(measure, __doc__, options)
