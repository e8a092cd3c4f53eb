"""The page of an audit: one self-contained file, the target first, that says what its verdict says and no more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evalsuite.analysis.verdict import Verdict
from evalsuite.files import write_text
from reports.page.audit_pictures import pictures
from reports.page.audit_tables import (
    check_table,
    claim_tables,
    cost_table,
    drop_table,
    need_table,
    rank_table,
)
from reports.page.facts import facts_of
from reports.page.templates import own, template
from reports.words import audit_page as words
from reports.words.audit_tiles import UNFOLDED, short, tiles

FILE = "audit.html"
_SECTIONS = (
    ("pictures", "Pictures"),
    ("needs-section", "Not told apart"),
    ("place", "Place and cost"),
    ("claims", "All claims"),
    ("contract", "Checks"),
    ("lost", "Lost and left out"),
    ("reproduce", "Reproduce"),
)
_NUMBERS = ("needs-section", "place", "claims")
_ALWAYS = ("contract", "lost", "reproduce")


def write_audit(folder: Path, verdict: Verdict) -> Path:
    """Write the page of a verdict, ``audit.html``, into a folder and return its path.

    Raises
    ------
    RequestError
        If it cannot be written.
    """
    page = folder / FILE
    write_text(page, _render(words.clean(verdict)))
    return page


def _render(verdict: Verdict) -> str:
    drawn = pictures(verdict)
    shown = {*_ALWAYS, *(_NUMBERS if verdict.reached else ()), *(("pictures",) if drawn else ())}
    return template("audit.html.j2").render(
        verdict=verdict,
        words=words,
        title=short(verdict.target_label, 100),
        facts=_facts(verdict),
        tiles=tiles(verdict) if verdict.reached else [],
        unfolded=UNFOLDED,
        sections=[each for each in _SECTIONS if each[0] in shown],
        breakages=words.breakages(verdict),
        pictures=drawn,
        needs=need_table(verdict),
        claims=claim_tables(verdict),
        drops=drop_table(verdict),
        ranks=rank_table(verdict),
        costs=cost_table(verdict),
        checks=check_table(verdict),
        environment=_environment(verdict),
        options=json.dumps(verdict.options, indent=2, ensure_ascii=False) if verdict.options else "",
        version=verdict.versions.get("evalsuite", ""),
        css=own("page.css") + own("tiles.css") + own("audit.css"),
        js=own("page.js"),
    )


def _facts(verdict: Verdict) -> str:
    return words.joined(
        [
            short(verdict.target, 100),
            f"profile {verdict.profile}",
            ", ".join(verdict.bits),
            words.few(list(verdict.tasks), "task"),
            f"against {words.few(verdict.rivals, 'rival')}" if verdict.rivals else "",
        ]
    )


def _environment(verdict: Verdict) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return what an audit was made with: tables of pairs, those without a pair left out."""
    seeds = ", ".join(map(str, verdict.seeds))
    tables: list[tuple[str, dict[str, Any]]] = [
        ("Versions", verdict.versions),
        ("Hardware", verdict.hardware),
        *((f"Task {short(task)}", dict(digests)) for task, digests in verdict.tasks.items()),
        ("Target", {"file": verdict.target, "digest": verdict.source_digest, "seeds": seeds}),
    ]
    if verdict.baselines:
        source = verdict.baselines
        facts = {"from": source.origin, "trials": source.trials, **source.versions, **source.hardware}
        tables.append(("Baselines, copied", facts))
    told = [(title, facts_of(facts)) for title, facts in tables]
    return [(title, pairs) for title, pairs in told if pairs]
