"""What a study or its reader asks of the report: which results, under which names, in which look."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from evalsuite.errors import RequestError, unknown_name
from evalsuite.hashing import canonical_json

FORMATS = ("pdf", "svg", "png", "eps")
"""Files that a figure can be written as."""
SELECTABLE = ("task", "calibration", "quantizer", "bits", "adapter", "stream")
"""What results are selected by."""
_INCHES = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}  # TeX's point, which \columnwidth is given in
_WIDTHS, _SIZES, _DIGITS = (1.5, 20.0), (4.0, 24.0), (0, 6)


@dataclass(frozen=True)
class Report:
    """The table ``[report]`` of a study, and the options of ``evalsuite report``; no part of a trial's identity.

    Attributes
    ----------
    figures : their names; empty: all that are installed.
    select : by ``task``, ``calibration``, ``quantizer``, ``bits``, ``adapter`` or ``stream``, the labels, or the
        names of methods, that are shown. No number changes: corrections are still over all that was run.
    rename : what labels, domains and classes are called instead.
    style : a style of matplotlib's, by name or ``.mplstyle`` file, laid over ours.
    width : that no figure goes beyond, with its unit (in, cm, mm, pt); by default 3.4in, and 7in for what needs both
        columns of a page.
    formats : of the files.
    font_size : points; by default 7, or what ``style`` says.
    digits : after the point; by default as many as the interval's width carries.
    """

    figures: tuple[str, ...] = ()
    select: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    style: str = ""
    width: str = ""
    formats: tuple[str, ...] = ("pdf", "png")
    font_size: float | None = None
    digits: int | None = None

    def __post_init__(self) -> None:
        for key in self.select:
            if key not in SELECTABLE:
                raise unknown_name("key to select by", key, SELECTABLE)
        for each in self.formats:
            if each not in FORMATS:
                raise unknown_name("format of a figure", each, FORMATS)
        if not self.formats:
            raise RequestError(f"no format of figures: expected some of {', '.join(FORMATS)}")
        if self.font_size is not None and not _SIZES[0] <= self.font_size <= _SIZES[1]:
            raise RequestError(f"font size {self.font_size}: expected {_SIZES[0]:g} to {_SIZES[1]:g} points")
        if self.digits is not None and not _DIGITS[0] <= self.digits <= _DIGITS[1]:
            raise RequestError(f"digits {self.digits}: expected {_DIGITS[0]} to {_DIGITS[1]}")
        if self.style.endswith(".mplstyle") and not Path(self.style).is_file():
            raise RequestError(f"no style file {self.style}: expected one of matplotlib's .mplstyle files")
        _ = self.inches

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Report:
        """Return what plain values, as :meth:`as_dict` gives them, say; what they lack keeps its default.

        Raises RequestError for another key, or a value of another kind.
        """
        known = [each.name for each in fields(cls)]
        for key in values:
            if key not in known:
                raise unknown_name("key in [report]", key, known)
            if isinstance(values[key], float) and not math.isfinite(values[key]):  # which JSON has no word for
                raise RequestError(f"{key.replace('_', ' ')} {values[key]}: expected a finite number")
        try:
            return TypeAdapter(cls).validate_json(canonical_json(values), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            if isinstance(own := first.get("ctx", {}).get("error"), RequestError):
                raise own from error
            raise RequestError(f"[report] {'.'.join(map(str, first['loc']))}: {first['msg']}") from error

    @property
    def inches(self) -> float | None:
        """``width`` in inches; None: the default widths."""
        if not self.width:
            return None
        found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", self.width)
        inches = float(found[1]) * _INCHES.get(found[2], math.nan) if found else math.nan
        if not _WIDTHS[0] <= inches <= _WIDTHS[1]:
            expected = f"expected {_WIDTHS[0]:g} to {_WIDTHS[1]:g} inches, such as 3.25in, 8.25cm or 234.9pt"
            raise RequestError(f"width {self.width!r}: {expected}")
        return inches

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        return plain | {"select": {key: list(own) for key, own in self.select.items()}, "rename": dict(self.rename)}
