from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from evalsuite.isolation import printable
from reports.markdown import escaped, fenced, table

PARSER = MarkdownIt("commonmark").enable("table")
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=40) | st.text(
    "<>&\\`*_[]()!#|~$-+=1.)& :/@wx\n", max_size=20
)


def texts_of(markdown: str) -> tuple[set[str], str]:
    """Return the kinds of inline pieces of a document, and its text."""
    pieces = [piece for token in PARSER.parse(markdown) for piece in token.children or ()]
    return {piece.type for piece in pieces}, "".join(piece.content for piece in pieces)


@given(TEXTS)
def test_a_text_is_read_as_it_is(text: str) -> None:
    kinds, read = texts_of(f"x {escaped(text)}")
    assert read.strip() == f"x {printable(text)}".strip()
    assert kinds <= {"text", "text_special"}


@given(TEXTS)
def test_at_the_beginning_of_a_line_it_begins_nothing(text: str) -> None:
    blocks = {token.type for token in PARSER.parse(escaped(text))}
    assert blocks <= {"paragraph_open", "inline", "paragraph_close"}


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3))
def test_a_table_has_the_cells_that_it_was_given(rows: list[tuple[str, str]]) -> None:
    tokens = PARSER.parse(table(["a", "b|c"], rows, [False, True]))
    cells = ["".join(p.content for p in token.children or ()) for token in tokens if token.type == "inline"]
    assert cells == ["a", "b|c", *(printable(cell) for row in rows for cell in row)]


@pytest.mark.parametrize("text", ["evalsuite run", "a ``` b", "`````"])
def test_code_ends_where_it_does(text: str) -> None:
    (block,) = PARSER.parse(fenced(text))
    assert block.type == "fence"
    assert block.content == f"{text}\n"
