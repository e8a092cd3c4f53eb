"""The verdict of an audit: what was asked of a method, what can be claimed, and what could not be told apart.

A value that is written as ``verdict.json`` and read back by whoever compares audits; its JSON schema is what
``evalsuite schema verdict`` prints. Errors, differences and intervals are fractions (0.01 is one percentage point).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evalsuite.errors import RequestError
from evalsuite.files import write_text

FILE = "verdict.json"

Question = Literal["mean", "worst class", "calibration", "noise", "adaptation", "streams", "cost", "engine"]
Standing = Literal["better", "not told apart", "worse", "not tested"]
CheckOutcome = Literal["pass", "fail", "not applicable"]
GroupKind = Literal["class", "domain", "group", "calibration"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Conformance(_Value):
    """One check of :mod:`evalsuite.testing` on the target."""

    name: str
    outcome: CheckOutcome
    message: str = ""
    """What was seen, where it failed or does not apply."""
    mend: str = ""
    """What the author can do."""
    spoils_numbers: bool = False
    """Whether a failure makes the method's errors meaningless: then there is no verdict."""


class Condition(_Value):
    """Under what a number was measured: the labels of the run's tables; empty where they vary within the number."""

    task: str
    bits: str = ""
    calibration: str = ""
    adapter: str = ""
    stream: str = ""


class Need(_Value):
    """How much data would tell a difference, from the measured variance (*ours*, simulated).

    See :mod:`evalsuite.statistics.power`.
    """

    size: float
    """The difference that is to be told, a fraction."""
    power: float
    """The probability of a claim with so many images or draws."""
    images: int | None = None
    """Test images a domain, with as many calibration draws as were made; None where ``most_images`` would not do."""
    most_images: int | None = None
    draws: int | None = None
    """Calibration draws, with as many images as were shown; None where ``most_draws`` would not do."""
    most_draws: int | None = None
    note: str = ""


class Claim(_Value):
    """The target against one rival at equal bits: one question, one difference."""

    question: Question
    condition: Condition
    rival: str
    """Its label, without bits."""
    standing: Standing
    estimate: float | None = None
    """The target's value minus the rival's: negative where the target errs less. Of ``cost``: a ratio, target's time
    to the rival's."""
    low: float | None = None
    high: float | None = None
    p: float | None = None
    """Before correction."""
    p_holm: float | None = None
    """Corrected by Holm over all claims of this question."""
    test: str = ""
    unit: str = ""
    n: int | None = None
    target_value: float | None = None
    rival_value: float | None = None
    target_group: str = ""
    """Where values are of a worst group: its name for the target."""
    rival_group: str = ""
    need: Need | None = None
    """Where the two are not told apart."""
    note: str = ""


class GroupDrop(_Value):
    """What a group, or a calibration set, loses by the target against the full-precision network."""

    kind: GroupKind
    name: str
    condition: Condition
    drop: float
    low: float | None = None
    high: float | None = None
    by_chance: float | None = None
    """The largest drop that would be expected if all groups were harmed alike."""
    p_holm: float | None = None
    shown: bool
    """Whether the loss is claimed: of a group, more than all groups harmed alike would give it."""


class Rank(_Value):
    """Where a method stands among the target and its rivals, over domains."""

    condition: Condition
    method: str
    is_target: bool
    mean_rank: float
    best: int
    """The best rank that the data allow."""
    worst: int
    error: float


class Cost(_Value):
    """What a method costs in one condition."""

    condition: Condition
    method: str
    is_target: bool
    engine: str = ""
    quantize_seconds: float | None = None
    seconds_per_image: float | None = None
    peak_bytes: int | None = None


class Trials(_Value):
    """How the target's trials ended."""

    done: int
    failed: int
    refused: int
    reasons: list[str] = Field(default_factory=list)
    """Distinct reasons of those without a result."""


class Baselines(_Value):
    """Where the rivals' records come from, where they were not made by this audit."""

    origin: str
    trials: int
    versions: dict[str, str]
    hardware: dict[str, Any]


class Gate(_Value):
    """A condition of ``--fail-if``, looked at."""

    expression: str
    value: float | None
    """Of its left side; None where there is none."""
    failed: bool


class Verdict(_Value):
    """All of an audit that is handed on."""

    schema_version: Literal[1] = 1
    target: str
    """As the command names it."""
    target_label: str
    options: dict[str, Any] = Field(default_factory=dict)
    source_digest: str = ""
    """Of the target's file; empty for an installed plugin."""
    profile: str
    command: str
    reached: bool
    """Whether numbers may be trusted: no check that spoils them failed, and trials of the target are done."""
    reasons: list[str] = Field(default_factory=list)
    """Why none was reached."""
    summary: str
    """At most 60 words."""
    conformance: list[Conformance]
    rivals: list[str]
    bits: list[str]
    tasks: dict[str, dict[str, str]]
    """By task: digests of images and weights."""
    seeds: list[int]
    versions: dict[str, str]
    hardware: dict[str, Any]
    level: float
    """Of every claim: corrected p below it and an interval without 0."""
    claims: list[Claim] = Field(default_factory=list)
    drops: list[GroupDrop] = Field(default_factory=list)
    """By group of the target without adaptation; those that are shown first, the largest before the others."""
    ranks: list[Rank] = Field(default_factory=list)
    costs: list[Cost] = Field(default_factory=list)
    trials: Trials
    baselines: Baselines | None = None
    gates: list[Gate] = Field(default_factory=list)
    left_out: list[str] = Field(default_factory=list)
    """What was not measured, and why."""

    def write(self, folder: Path) -> Path:
        """Write ``verdict.json`` into a folder."""
        path = folder / FILE
        write_text(path, self.model_dump_json(indent=1) + "\n")
        return path


def read_verdict(folder: Path) -> Verdict:
    """Read ``verdict.json`` of a folder. Raises RequestError if there is none or it does not hold a verdict."""
    path = folder / FILE
    try:
        return Verdict.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read {path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "whole file"
        raise RequestError(f"{path} is no verdict ({where}: {first['msg']}): run the audit again") from error
