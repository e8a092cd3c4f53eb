"""A verdict in at most 60 words."""

from __future__ import annotations

from collections.abc import Sequence

from evalsuite.analysis.verdict import Claim, GroupDrop, Rank

MOST_WORDS = 60


def summary_of(
    title: str, reasons: Sequence[str], claims: Sequence[Claim], drops: Sequence[GroupDrop], ranks: Sequence[Rank]
) -> str:
    """Say what was found, the worst first: what breaks, then how the target compares."""
    if reasons:
        return _cut(f"No verdict on {title}. {reasons[0]}", MOST_WORDS)
    sentences = [*_breaks(drops), _compared("mean error", "mean", claims)]
    sentences.append(_compared("worst class", "worst class", claims))
    own = [rank for rank in ranks if rank.is_target]
    if own:
        best, worst = min(rank.best for rank in own), max(rank.worst for rank in own)
        of = sum(rank.condition == own[0].condition for rank in ranks)
        sentences.append(f"Rank {best}-{worst} of {of}." if best < worst else f"Rank {best} of {of}.")
    text = ""
    for sentence in filter(None, sentences):
        if len(f"{text} {sentence}".split()) <= MOST_WORDS:
            text = f"{text} {sentence}".strip()
    return text


def _cut(text: str, most: int) -> str:
    words = text.split()
    return " ".join(words) if len(words) <= most else " ".join(words[: most - 1]) + " ..."


def _breaks(drops: Sequence[GroupDrop]) -> list[str]:
    """Name the class that loses most, or say that none loses more than another; then the worst calibration set."""
    classes = [drop for drop in drops if drop.kind == "class"]
    shown = max((drop for drop in classes if drop.shown), key=lambda drop: drop.drop, default=None)
    found = []
    if shown is not None:
        found.append(
            f"Breaks class {shown.name} at {shown.condition.bits}: {100 * shown.drop:.0f} points more errors than full "
            f"precision{_p(shown.p_holm)}."
        )
    elif classes:
        found.append("No class is shown to lose more than the others.")
    sets = [drop for drop in drops if drop.kind == "calibration" and drop.shown]
    if sets:
        worst = max(sets, key=lambda drop: drop.drop)
        found.append(f"Calibrated on {worst.name}, it errs {100 * worst.drop:.1f} points more.")
    return found


def _p(p: float | None) -> str:
    return "" if p is None else f" (p = {p:.2g})"


def _compared(what: str, question: str, claims: Sequence[Claim]) -> str:
    """Say where the target is better, worse or not told apart, by rival and bits."""
    asked = [claim for claim in claims if claim.question == question]
    parts = []
    for standing in ("better", "worse", "not told apart"):
        names: dict[str, list[str]] = {}
        for claim in asked:
            if claim.standing == standing:
                bits = names.setdefault(claim.rival, [])
                bits += [] if claim.condition.bits in bits else [claim.condition.bits]
        if names:
            rivals = ", ".join(f"{rival} ({', '.join(bits)})" for rival, bits in names.items())
            parts.append(f"{standing}{' than' if standing in ('better', 'worse') else ' from'} {rivals}")
    return f"{what[0].upper()}{what[1:]}: {'; '.join(parts)}." if parts else ""
