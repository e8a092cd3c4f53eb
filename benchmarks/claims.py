"""What papers say beside what published tables say: claims.toml, answered from the CSVs under docs/results.

A claim is *seen* where the tables show it, *not seen* where they do not, *not yet measured* where its study is not
published, and cannot be tested here where what it is about is not at hand. The rules are ours:

- ``harmed``, ``lower`` and ``fragile`` are seen where more than half of the networks or pairs show it, each by the rule
  of claims (:mod:`evalsuite.analysis.claims`);
- ``changes`` is seen where some pair would still be shown if its p counted once for every family of pairs.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pandas as pd

from evalsuite.analysis import claims
from reports.markdown import escaped, table
from reports.words.numbers import CONFIDENCE_PERCENT, count, interval, listed, number, p_value, points
from reports.words.verdict import named_class

FILE = Path(__file__).with_suffix(".toml")
SEEN, NOT_SEEN = "seen", "not seen"
NOT_MEASURED, BEYOND = "not yet measured", "cannot be tested here"
_FAMILY = ("task", "family", "quantizer_label")
_WORST = (("worst_class_low", "worst_class_high"), ("worst_low", "worst_high"))
_MOST_LISTED = 3  # pairs that are all named


@dataclass(frozen=True)
class Asked:
    """What of a study's tables answers a claim; see claims.toml."""

    study: str
    about: str
    measure: str
    where: Mapping[str, str | Sequence[str]]
    pairs: tuple[tuple[str, str], ...] = ()
    table: str = "comparisons.csv"
    part: bool = False


@dataclass(frozen=True)
class Claim:
    """What a paper says, what answers it, and why nothing can."""

    says: str
    asked: tuple[Asked, ...] = ()
    beyond: str = ""


@dataclass(frozen=True)
class Paper:
    """A paper, and what of it was read."""

    title: str
    arxiv: str
    read: str
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class Answer:
    """What we see: Markdown, and how the claim stands."""

    figure: str
    standing: str


def papers(file: Path = FILE) -> list[Paper]:
    """Read the claims."""
    return [
        Paper(own["title"], own["arxiv"], own["read"], tuple(map(_claim, own["claim"])))
        for own in tomllib.loads(file.read_text(encoding="utf-8"))["paper"]
    ]


def _claim(own: Mapping[str, Any]) -> Claim:
    asked = [
        Asked(**{**one, "pairs": tuple((a, b) for a, b in one.get("pairs", ()))})  # values of TOML
        for one in own.get("asked", ())
    ]
    return Claim(own["says"], tuple(asked), own.get("beyond", ""))


def answer(claim: Claim, results: Path) -> Answer:
    """Answer a claim from the tables of published studies, folders of ``results``: the first that have rows for it."""
    published = ((one, _rows(one, results)) for one in claim.asked if any(results.glob(f"{one.study}/*/summary.csv")))
    asked, rows = next(((one, rows) for one, rows in published if len(rows)), (None, None))
    if asked is None or rows is None:
        return Answer(_nothing(claim), BEYOND if claim.beyond else NOT_MEASURED)
    said, seen = MEASURES[asked.measure](rows, asked)
    figure = f"{escaped(asked.about)}: {said} ([{asked.study}]({asked.study}.md))"
    if claim.beyond:
        return Answer(f"{escaped(claim.beyond)}; {figure}", BEYOND)
    return Answer(figure, (SEEN if seen else NOT_SEEN) + ", in part" * asked.part)


def _nothing(claim: Claim) -> str:
    would = [f"`evalsuite run {claim.asked[0].study} --data-root DIR`"] if claim.asked else []
    why = [escaped(claim.beyond)] if claim.beyond else []
    near = [f"nearest, not yet measured: {each}" if claim.beyond else f"asked by {each}" for each in would]
    return "; ".join([*why, *near])


def _rows(asked: Asked, results: Path) -> pd.DataFrame:
    """Return the rows of a study's table that are asked for, of all its published runs."""
    name = "summary.csv" if asked.measure in ("harmed", "passes") else asked.table
    files = sorted(results.glob(f"{asked.study}/*/{name}"))
    if not files:
        return pd.DataFrame()
    frame = pd.concat(map(read_table, files), ignore_index=True)
    for column, wanted in asked.where.items():
        frame = frame[[matches(str(value), wanted) for value in frame[column]]]
    if asked.measure == "harmed":
        frame = frame[frame["worst_drop_class_p_holm"].notna()]
    return _directed(frame, asked.pairs) if asked.pairs else frame


def read_table(file: Path) -> pd.DataFrame:
    """Read a published table; a class stays a name where it is a number, and "none" what it is."""
    return pd.read_csv(file, keep_default_na=False, na_values=[""], dtype={"worst_drop_class": "str"})


def matches(value: str, wanted: str | Sequence[str]) -> bool:
    """Tell whether a value is one of those wanted, in which * stands for anything."""
    return any(fnmatchcase(value, each) for each in ([wanted] if isinstance(wanted, str) else wanted))


def _directed(frame: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Return the pairs that are asked for, turned so that ``difference`` is what ``a`` has more than ``b``."""
    turned = frame.assign(a=frame["b"], b=frame["a"], difference=-frame["difference"])
    turned = turned.assign(low=-frame["high"], high=-frame["low"])
    parts = []
    for way in (frame, turned):
        both = zip(way["a"], way["b"], strict=True)
        parts.append(way[[any(matches(a, x) and matches(b, y) for x, y in pairs) for a, b in both]])
    return pd.concat(parts).sort_index()


def _harmed(frame: pd.DataFrame, asked: Asked) -> tuple[str, bool]:
    harmed = frame[claims.harmed(frame["worst_drop_class_p_holm"], frame["worst_drop_class_value"])]
    text = f"the worst class loses more than chance explains in {len(harmed)} of {count(len(frame), 'network')}"
    if len(frame):
        top = frame.loc[frame["worst_drop_class_value"].idxmax()]
        between = interval(top["worst_drop_class_low"], top["worst_drop_class_high"])
        text += (
            f"; largest: {escaped(top['quantizer_label'])} on {top['task']}, "
            f"{escaped(named_class(top['worst_drop_class']))}, {points(top['worst_drop_class_value'])} "
            f"({between}; chance alone {number(100 * top['worst_drop_class_null'])})"
        )
    return text, 2 * len(harmed) > len(frame)


def _passes(frame: pd.DataFrame, asked: Asked) -> tuple[str, bool]:
    each = frame[["forwards_per_batch", "backwards_per_batch"]].drop_duplicates()
    said = [f"{number(f, 0)} forward and {number(b, 0)} backward" for f, b in each.to_numpy()]
    seen = bool(len(frame) and (frame["forwards_per_batch"] == 2).all() and (frame["backwards_per_batch"] == 0).all())
    networks = len(frame.drop_duplicates(["task", "calibration_label", "quantizer_label"]))
    return f"{listed(said)}, on {count(networks, 'quantized network')}", seen


def _lower(frame: pd.DataFrame, asked: Asked) -> tuple[str, bool]:
    higher, lower = _directions(frame)
    text = f"shown to be lower in {lower} and higher in {higher} of {count(len(frame), 'pair')}"
    return text + _sizes(frame), 2 * lower > len(frame)


def _changes(frame: pd.DataFrame, asked: Asked) -> tuple[str, bool]:
    higher, lower = _directions(frame)
    text = f"shown to be higher in {higher} and lower in {lower} of {count(len(frame), 'pair')}"
    if frame.empty:
        return text, False
    families = frame.groupby([name for name in _FAMILY if name in frame], dropna=False).ngroups
    seen = bool(claims.shown(frame["p_holm"] * families, frame["low"], frame["high"]).any())
    return text + _sizes(frame), seen


def _fragile(frame: pd.DataFrame, asked: Asked) -> tuple[str, bool]:
    excess = frame.assign(difference=frame["excess"], level=frame["calibration_label"])
    more, less = _directions(excess)
    text = f"the loss under shift is shown to exceed that on clean images in {more} and to be less in {less} of "
    return text + count(len(frame), "network") + _sizes(excess), 2 * more > len(frame)


MEASURES: dict[str, Callable[[pd.DataFrame, Asked], tuple[str, bool]]] = {
    "harmed": _harmed,
    "passes": _passes,
    "lower": _lower,
    "changes": _changes,
    "fragile": _fragile,
}


def _directions(frame: pd.DataFrame) -> tuple[int, int]:
    """Count the pairs that are shown to be higher, and to be lower."""
    known = frame[claims.shown(frame["p_holm"], frame["low"], frame["high"])]
    return int((known["difference"] > 0).sum()), int((known["difference"] < 0).sum())


def _sizes(frame: pd.DataFrame) -> str:
    """Say how large differences are: of few pairs each, of many the least and the largest."""
    if frame.empty:
        return ""
    ordered = frame.sort_values("difference", kind="stable")
    few = len(frame) <= _MOST_LISTED
    said = [_size(row) for _, row in (ordered if few else ordered.iloc[[0, -1]]).iterrows()]
    return "; " + ("; ".join(said) if few else f"from {' to '.join(said)}") + _worst(frame)


def _worst(frame: pd.DataFrame) -> str:
    """Say in how many pairs the drop of the worst class is another one."""
    low, high = _WORST[0] if _WORST[0][0] in frame else _WORST[1]
    if low not in frame or frame[low].isna().all():
        return ""
    apart = int(claims.excludes_zero(frame[low], frame[high]).sum())
    return f"; the worst class's drop differs, by its interval, in {apart}"


def _size(row: pd.Series) -> str:
    who = f"{row['a']} against {row['b']}" if "a" in row else str(row["level"])
    network = [str(row[name]) for name in ("quantizer_label", "adapter_label") if isinstance(row.get(name), str)]
    where = ", ".join([who, *(name for name in network if name != "none"), str(row["task"])])
    tested = "not tested" if pd.isna(row["p_holm"]) else p_value(row["p_holm"])
    return f"{points(row['difference'])} ({interval(row['low'], row['high'])}; {tested}; {escaped(where)})"


def page(results: Path) -> str:
    """Return docs/results/claims.md."""
    parts = [
        "# What the papers say and what we see",
        "Each claim of three abstracts, and what the tables published here say to it. Words are ours, numbers of a "
        "paper stand only where its abstract gives them. A claim is *seen* where more than half of the networks or "
        "pairs of the study show it (what is asked, not claimed: where at least one does, with p corrected for all "
        f"of them), *not seen* where they do not. Differences are in points, brackets hold {CONFIDENCE_PERCENT} % "
        "intervals and p after Holm's correction. The studies are smaller than the papers': not seen here is not "
        "refuted. `python -m benchmarks.publish` remakes this page from the tables.",
    ]
    for paper in papers():
        rows = [(claim.says, answer(claim, results)) for claim in paper.claims]
        lines = table(["The paper", "What we see", ""], [], [False] * 3).splitlines()
        lines += [f"| {escaped(says)} | {own.figure} | {own.standing} |" for says, own in rows]
        title = f"## {escaped(paper.title)}"
        source = f"[arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv}); read: {paper.read}."
        parts += [title, source, "\n".join(lines)]
    return "\n\n".join(parts) + "\n"
