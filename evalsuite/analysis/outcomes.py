"""What the method combinations of a run got wrong, over their seeds, and which of them may be compared."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalsuite.analysis.reading import Column as Column
from evalsuite.analysis.reading import Int8Array as Int8Array
from evalsuite.analysis.reading import Layout as Layout
from evalsuite.analysis.reading import Outcome as Outcome
from evalsuite.analysis.reading import Reading, Seeds
from evalsuite.analysis.reading import pooled as pooled
from evalsuite.errors import RequestError
from evalsuite.groups import ALWAYS, OF_RECORDS, PRODUCT, parts
from evalsuite.oracles import oracles as oracles_in
from evalsuite.store import SIMULATION, Run

COMBINATION = ("task", "calibration_label", "quantizer_label", "adapter_label", "stream_label")
GROUPS = ALWAYS
_MOST_COLUMNS = 256
_MOST_ELEMENTS = 2**26
_TOGETHER = 16
"""Combinations whose records are read as one piece of work: enough that a second process has something to do for
longer than handing the piece over takes, few enough that both end at about the same time."""

Spread = Callable[[Sequence[Reading]], Iterable[Sequence[Seeds]]]
"""Does pieces of work, some of them elsewhere, and returns what they return, in their order."""
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Combination:
    """A method combination; seeds are replicates."""

    task: str
    calibration: str
    quantizer: str
    adapter: str
    stream: str
    outcomes: dict[int, Outcome]
    """By seed, of the trials that are done."""
    references: dict[int, str]
    """By seed, the trial of the full-precision, unadapted network."""
    facts: dict[str, Any]
    """The columns of ``summary.csv`` that come from the trials' rows, and ``ece``."""

    @property
    def labels(self) -> dict[str, str]:
        """The columns ``COMBINATION``."""
        return dict(
            zip(COMBINATION, (self.task, self.calibration, self.quantizer, self.adapter, self.stream), strict=True)
        )

    @property
    def exported_to(self) -> str:
        """The engine that runs its exported network; empty where it runs as its quantizer made it."""
        return str(self.facts.get("exported_to", ""))

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """The rows of each seed."""
        return tuple(outcome.layout for outcome in self.outcomes.values())

    def shows_what(self, other: Combination) -> bool:
        """Whether both have the same seeds in order, and the same rows for each."""
        same_seeds = tuple(self.outcomes) == tuple(other.outcomes)
        return same_seeds and all(map(operator.is_, self.layouts, other.layouts))

    @property
    def is_reference(self) -> bool:
        """Whether its trials are their own references."""
        return all(outcome.trial == self.references[seed] for seed, outcome in self.outcomes.items())


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of some layouts, one layout a seed, end to end."""

    task: str
    layouts: tuple[Layout, ...]
    classes: Sequence[str]

    @cached_property
    def image(self) -> NDArray[np.int32]:
        """(N,) index of the test image."""
        return np.concatenate([layout.image for layout in self.layouts])

    @cached_property
    def replicate(self) -> NDArray[np.int64]:
        """(N,) which of the layouts, that is which seed, the row belongs to."""
        return np.repeat(np.arange(len(self.layouts)), [len(layout.image) for layout in self.layouts])

    @cached_property
    def crossed(self) -> bool:
        """Whether there are several seeds and all of them show the same images."""
        shown = [np.unique(layout.image) for layout in self.layouts]
        return len(shown) > 1 and all(np.array_equal(own, shown[0]) for own in shown)

    @cached_property
    def domains(self) -> list[tuple[str, int]]:
        """Every (name, severity), in order."""
        return sorted({domain for layout in self.layouts for domain in layout.domains})

    @cached_property
    def domain(self) -> NDArray[np.int64]:
        """(N,) index into ``domains``."""
        code = {domain: index for index, domain in enumerate(self.domains)}
        return np.concatenate([np.array([code[d] for d in part.domains])[part.domain] for part in self.layouts])

    def has(self, group: str) -> bool:
        """Tell whether the rows have all columns of a grouping."""
        return all(part in OF_RECORDS or part in self._columns for part in parts(group, self._columns))

    def group(self, name: str) -> tuple[NDArray[np.int64], list[str]]:
        """Return each row's group (N,) and the names of the groups that have rows.

        ``name``: one of ``OF_RECORDS``, a column of the task's own, or a product of them such as ``class x site``.
        """
        columns = [self._column(part) for part in parts(name, self._columns)]
        sizes = [len(column.names) for column in columns]
        codes = np.ravel_multi_index([column.code for column in columns], sizes)
        present, inverse = np.unique(codes, return_inverse=True)
        cells = zip(*np.unravel_index(present, sizes), strict=True)
        named = [PRODUCT.join(each.names[code] for each, code in zip(columns, cell, strict=True)) for cell in cells]
        return inverse, named

    @property
    def _columns(self) -> Mapping[str, Column]:
        return self.layouts[0].columns

    def _column(self, name: str) -> Column:
        if name == "class":
            return Column(tuple(self.classes), np.concatenate([layout.label for layout in self.layouts]))
        if name in ("domain", "severity"):
            values = [each[0] if name == "domain" else str(each[1]) for each in self.domains]
            names, codes = np.unique(values, return_inverse=True)
            return Column(tuple(names.tolist()), codes[self.domain].astype(np.int32))
        return Column.joined([layout.columns[name] for layout in self.layouts])


@dataclass(frozen=True, eq=False)
class Outcomes:
    """A whole run."""

    combinations: list[Combination]
    by_trial: dict[str, Outcome]
    classes: dict[str, list[str]]
    """By task, the names of its classes."""
    oracles: list[Combination] = field(default_factory=list)
    """Those of adapters that were told the labels: none of ``combinations``."""
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what ``make`` made when it was first asked for by this key: several tables are made of it."""
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]
        return made

    @cached_property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """By task, its own group columns in which a value repeats: where all differ, a group is an image."""
        layouts = {each.task: outcome.layout for each in self.combinations for outcome in each.outcomes.values()}
        return {
            task: tuple(
                name
                for name, column in layout.columns.items()
                if name not in OF_RECORDS and len(column.names) < len(np.unique(layout.image))
            )
            for task, layout in layouts.items()
        }

    def paired_with_reference(self, combination: Combination) -> list[tuple[Outcome, Outcome]]:
        """Return (own, reference) of each seed whose reference is done.

        Raises
        ------
        RequestError
            If the two did not see the same images under the same domains.
        """
        pairs = []
        for seed, own in combination.outcomes.items():
            reference = self.by_trial.get(combination.references[seed])
            if reference is None:
                continue
            if own.layout is not reference.layout:
                raise RequestError(
                    f"trial {own.trial} and its reference {reference.trial} saw different images: "
                    "expected the same stream; delete their record files and run again"
                )
            pairs.append((own, reference))
        return pairs

    def rows(self, task: str, layouts: Iterable[Layout]) -> Rows:
        """Return the rows of some layouts of a task."""
        return Rows(task, tuple(layouts), self.classes[task])

    def together(self, alike: Sequence[Combination]) -> tuple[Rows, Int8Array]:
        """Return the rows of combinations that all show the same, and what each got wrong (N, M)."""
        wrong = np.column_stack([pooled(each.outcomes.values()) for each in alike])
        return self.rows(alike[0].task, alike[0].layouts), wrong

    def batches(self, items: Iterable[tuple[str, Sequence[Outcome]]]) -> Iterator[tuple[Rows, list[int]]]:
        """Group items (task, outcomes) that have all their rows in common; yields those rows and the items' indices."""
        groups: dict[tuple[str, tuple[Layout, ...]], list[int]] = {}
        for index, (task, outcomes) in enumerate(items):
            if outcomes:
                groups.setdefault((task, tuple(outcome.layout for outcome in outcomes)), []).append(index)
        for (task, layouts), members in groups.items():
            rows = self.rows(task, layouts)
            step = int(np.clip(_MOST_ELEMENTS // len(rows.image), 1, _MOST_COLUMNS))
            for start in range(0, len(members), step):
                yield rows, members[start : start + step]


def read_outcomes(run: Run, layouts: dict[str, Layout] | None = None, spread: Spread | None = None) -> Outcomes:
    """Read the trials of a run that are done.

    Parameters
    ----------
    layouts : by digest, of runs read before, so that equal ones are one object across runs; grows.
    spread : has some of it read beside this process.
    """
    layouts = {} if layouts is None else layouts
    by_trial: dict[str, Outcome] = {}
    found: list[Combination] = []
    told: list[Combination] = []
    done = run.trials[run.trials["status"] == "done"]
    oracles = set(done.loc[oracles_in(done), "trial"])
    groups: Any = [(names, rows.sort_values("seed")) for names, rows in done.groupby(list(COMBINATION), sort=False)]
    asked = [(names[0], rows["trial"].tolist()) for names, rows in groups]
    pieces = [Reading(run, asked[start : start + _TOGETHER]) for start in range(0, len(asked), _TOGETHER)]
    read = (piece.do() for piece in pieces) if spread is None else spread(pieces)
    for (names, rows), seeds in zip(groups, itertools.chain.from_iterable(read), strict=True):
        alike = [replace(each, layout=layouts.setdefault(each.layout.digest, each.layout)) for each in seeds.outcomes]
        by_trial |= {each.trial: each for each in alike}
        own = dict(zip(rows["seed"], alike, strict=True))
        references = dict(zip(rows["seed"], rows["reference"], strict=True))
        task, calibration, quantizer, adapter, stream = names
        facts = _facts(rows) | seeds.facts
        place = told if oracles.issuperset(rows["trial"]) else found
        place.append(Combination(task, calibration, quantizer, adapter, stream, own, references, facts))
    return Outcomes(found, by_trial, {task: facts["classes"] for task, facts in run.study["tasks"].items()}, told)


def _facts(rows: pd.DataFrame) -> dict[str, Any]:
    exported = SIMULATION in rows and bool(rows[SIMULATION].notna().any())
    return {
        **({"exported_to": rows["engine"].iloc[0]} if exported else {}),
        "bits": rows["bits"].iloc[0],
        "seeds": len(rows),
        "images": int(rows["images"].iloc[0]),
        "forwards_per_batch": rows["forwards"].sum() / rows["batches"].sum(),
        "backwards_per_batch": rows["backwards"].sum() / rows["batches"].sum(),
        "seconds_per_image": rows["adapt_seconds"].sum() / rows["images"].sum(),
        "adapted_parameters": int(rows["adapted_parameters"].max()),
        "state_bytes": int(rows["state_bytes"].max()),
    }
