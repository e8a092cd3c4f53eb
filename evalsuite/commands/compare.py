"""``evalsuite compare``: the same tests across runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from evalsuite.commands._options import DONE, AsJson
from evalsuite.errors import RequestError


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Folders of runs; the first is the base.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Also write the table as CSV.")] = None,
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FILE.html", help="Also write a page that shows the differences.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Compare the same method combinations in several runs, with the same tests; refused where images differ."""
    from evalsuite import registry
    from evalsuite.analysis import compare_runs
    from evalsuite.analysis.across import unpaired
    from evalsuite.files import write_csv
    from evalsuite.store import load

    if page is not None and (page.suffix.lower() not in (".html", ".htm") or page.is_dir()):
        raise RequestError(f"--page {page}: expected a file such as compare.html")
    places = [run.resolve() for run in runs]
    for run, place in zip(runs, places, strict=True):
        if places.count(place) > 1:
            raise RequestError(f"{run} is given twice: expected runs that differ")
    loaded = [load(run) for run in runs]
    found = compare_runs(loaded)
    if page is not None:
        registry.load("reports", "comparison")(loaded, found, unpaired(loaded), page)
    if out is not None:
        write_csv(out, found)
    if as_json:
        print(found.to_json(orient="records"))
        return DONE
    for row in found.to_dict("records"):
        _say(row)
    for written, file in (("table", out), ("page", page)):
        if file is not None:
            print(f"{written}: {file}")
    return DONE


def _say(row: dict[Any, Any]) -> None:
    labels = ", ".join(str(row[name]) for name in ("task", "quantizer_label", "adapter_label", "stream_label"))
    tested = row["note"] or f"p = {row['p_holm']:.2g} after Holm, {row['n']} {row['unit']}{'s' * (row['n'] != 1)}"
    if row["seeds"] < (most := max(row["seeds_a"], row["seeds_b"])):
        tested += f"; {row['seeds']} of {most} seeds are in both"
    print(labels)
    print(f"  {row['a']} {100 * row['error_a']:.1f} % wrong, {row['b']} {100 * row['error_b']:.1f} %: ", end="")
    print(f"{100 * row['difference']:+.2f} points ({100 * row['low']:+.2f} to {100 * row['high']:+.2f}; {tested})")
