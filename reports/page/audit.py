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
from reports.page.templates import own, template
from reports.words import audit_page as words

FILE = "audit.html"
_LINES = 6  # of a tile that are not folded


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
    claims = claim_tables(verdict)
    return template("audit.html.j2").render(
        verdict=verdict,
        words=words,
        title=words.short(verdict.target_label, 100),
        facts=_facts(verdict),
        tiles=words.tiles(verdict) if verdict.reached else [],
        unfolded=_LINES,
        breakages=words.breakages(verdict),
        pictures=pictures(verdict),
        needs=need_table(verdict),
        claims=claims,
        drops=drop_table(verdict),
        ranks=rank_table(verdict),
        costs=cost_table(verdict),
        checks=check_table(verdict),
        environment=_environment(verdict),
        options=json.dumps(verdict.options, indent=2, ensure_ascii=False) if verdict.options else "",
        version=verdict.versions.get("evalsuite", ""),
        css=own("page.css") + own("audit.css"),
        js=own("page.js"),
    )


def _facts(verdict: Verdict) -> str:
    return words.joined(
        [
            words.short(verdict.target, 100),
            f"profile {verdict.profile}",
            ", ".join(verdict.bits),
            ", ".join(words.short(task) for task in verdict.tasks),
            f"against {', '.join(words.short(rival) for rival in verdict.rivals)}" if verdict.rivals else "",
        ]
    )


def _environment(verdict: Verdict) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return what an audit was made with: tables of pairs, those without a pair left out."""
    tables: list[tuple[str, dict[str, Any]]] = [
        ("Versions", verdict.versions),
        ("Hardware", verdict.hardware),
        *((f"Task {words.short(task)}", dict(digests)) for task, digests in verdict.tasks.items()),
        ("Target", {"file": verdict.target, "digest": verdict.source_digest, "seeds": verdict.seeds}),
    ]
    if verdict.baselines:
        source = verdict.baselines
        facts = {"from": source.origin, "trials": source.trials, **source.versions, **source.hardware}
        tables.append(("Baselines, copied", facts))
    told = [
        (title, [(key.replace("_", " "), _plain(value)) for key, value in facts.items() if value not in ("", [], {})])
        for title, facts in tables
    ]
    return [(title, pairs) for title, pairs in told if pairs]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
