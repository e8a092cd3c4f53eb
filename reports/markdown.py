"""Text of anyone's as Markdown, in which it stands as it is: CommonMark with the tables and links of GitHub's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from evalsuite.isolation import printable

_SPECIAL = re.compile(r"[\\`*_\[\]<>|&~$#]")
_LINK = re.compile(r":(?=//)|(?<=www)\.|@", re.IGNORECASE)
_BEGINS = re.compile(r"^(\d{1,9})?([-+.)])(?=\s|$)|^([-=])(?=[-=\s]*$)")
"""How lists, rules and headings begin."""
_TICKS = re.compile("`+")


def escaped(text: str) -> str:
    """Return a text as one line of Markdown that shows it and nothing else: no mark-up, entity, mathematics or link."""
    line = _SPECIAL.sub(r"\\\g<0>", printable(text))
    return _BEGINS.sub(r"\1\\\2\3", _LINK.sub(r"\\\g<0>", line))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    """Return a table; heads and cells are text, not Markdown.

    Parameters
    ----------
    heads : one a column.
    rows : cells, as many as there are heads.
    numeric : of each column, whether it stands at the right.
    """
    lines = [heads, ["---:" if right else "---" for right in numeric], *rows]
    return "\n".join(
        f"| {' | '.join(cells if place == 1 else map(escaped, cells))} |" for place, cells in enumerate(lines)
    )


def fenced(text: str) -> str:
    """Return a block of code, whose fence is longer than any in the text."""
    longest = max((len(each) for each in _TICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def listed(lines: Sequence[str]) -> str:
    """Return a list whose items are Markdown."""
    return "\n".join(f"- {line}" for line in lines)
