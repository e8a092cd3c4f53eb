"""The documents as their tests read them: blocks of code, links, headings."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *PAGES, ROOT / "examples" / "README.md"]
_REASON = re.compile(r"<!-- not run: (.+?) -->")
_FILE = re.compile(r"(?:#|%) ([\w.]+\.\w+)(?:$|:)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its lines, why it is not run (empty: it is), the file that its first line names."""

    page: str
    line: int
    language: str
    text: str
    reason: str
    file: str


def tokens_of(file: Path) -> list[Token]:
    return MarkdownIt().enable("table").parse(file.read_text(encoding="utf-8"))


def blocks_of(file: Path) -> list[Block]:
    found, reason = [], ""
    for token in tokens_of(file):
        if token.type == "fence":
            named = _FILE.match(token.content.partition("\n")[0])
            line = (token.map or [0])[0] + 1
            language = token.info.strip()
            found.append(Block(file.name, line, language, token.content, reason, named[1] if named else ""))
        said = _REASON.match(token.content) if token.type == "html_block" else None
        reason = said[1] if said else ""
    return found


def commands_of(block: Block) -> list[tuple[str, list[str]]]:
    """Return the commands of a console block, and the lines that each is said to print."""
    found: list[tuple[str, list[str]]] = []
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.strip():
            found[-1][1].append(line)
    return found


def links_of(file: Path) -> list[str]:
    """Return where the links and pictures of a document lead."""
    inline = [child for token in tokens_of(file) for child in token.children or []]
    return [str(child.attrs["href" if child.type == "link_open" else "src"]) for child in inline if _leads(child)]


def _leads(token: Token) -> bool:
    return token.type in ("link_open", "image")


def anchors_of(file: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub and the site make them."""
    tokens = tokens_of(file)
    titles = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    plain = [re.sub(r"[^\w\- ]", "", re.sub(r"\[(.+?)\]\(.+?\)", r"\1", title)).lower().strip() for title in titles]
    seen: Counter[str] = Counter()
    found = set()
    for title in plain:
        slug = title.replace(" ", "-")
        found.add(f"{slug}_{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found
