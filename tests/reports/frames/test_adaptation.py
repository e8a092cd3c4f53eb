import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from _dummies.runs import BATCH, make_run

from evalsuite import store
from evalsuite.store import Run
from reports.frames.adaptation import adaptation
from reports.frames.evidence import evidence
from reports.words.adapters import of_adapters

DOMAINS = ["clean", "gaussian_noise", "fog", "snow", "contrast", "pixelate", "frost"]
IMAGES = 20  # of a domain, two batches


def changed(folder: Path, **columns: object) -> Run:
    """Change columns of the rows of zoa, which has its say on domains, and read the run."""
    rows = store.read_rows(folder)
    for row in rows.values():
        if row["adapter"] == "zoa":
            row.update(columns)
    store.write_trials(folder, list(rows.values()))
    return store.load(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(
        tmp_path / "run",
        tasks=["a"],
        quantizers=[("full_precision", "FP32"), ("rtn", "W4A4")],
        adapters=["none", "tent", "zoa"],
        streams=["usual"],
        domains=DOMAINS,
        images=IMAGES,
        seeds=(0, 1),
    )


TOLD = json.dumps({"domain_changes": [2, 5, 6, 7], "unjudged": 0, "skipped": 0})


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        ([], ""),
        (["bn1", "bn2"], "bn1, bn2"),
        (["bn1", "layer1.bn", "bn2"], "3: bn1 to bn2"),
        (["", "patch_embed", "head"], "3: (root) to head"),
    ],
)
def test_what_an_adapter_moved_is_named(folder: Path, modules: list[str], expected: str) -> None:
    table = adaptation(changed(folder, adapter_facts=json.dumps({"adapted_modules": modules})))
    assert set(table.loc[table["adapter_label"] == "zoa", "moved"]) == {expected}
    assert set(table.loc[table["adapter_label"] == "tent", "moved"]) == {""}


def test_every_adapter_is_held_against_none(folder: Path) -> None:
    run = store.load(folder)
    table, comparisons = adaptation(run), evidence(run).comparisons
    assert list(table["adapter_label"]) == ["tent", "zoa", "tent", "zoa"]
    own = comparisons[
        (comparisons["factor"] == "adapter") & comparisons["context"].str.startswith("quantizer rtn W4A4")
    ]
    expected = own.set_index("a").loc[["tent", "zoa"]]
    found = table[table["network"] == "rtn W4A4"].set_index("adapter_label")
    np.testing.assert_allclose(found["difference"], expected["difference"])
    np.testing.assert_allclose(found["p"], expected["p_holm_context"])
    np.testing.assert_allclose(found["error"] - found["unadapted_error"], found["difference"])
    np.testing.assert_allclose(found["seconds_ratio"], [2, 3])  # passes over a batch, forwards and backwards
    assert table["hit_rate"].isna().all()


def test_hits_and_false_alarms_are_counted_over_seeds(folder: Path) -> None:
    table = adaptation(changed(folder, adapter_facts=TOLD))
    zoa = table[table["adapter_label"] == "zoa"].iloc[0]
    # Two batches a domain: it changes with batches 2, 4, 6, 8, 10 and 12; 5 and 7 come a batch late.
    assert [zoa[f"{name}_1"] for name in ("hits", "changes", "alarms", "others")] == [4, 12, 4, 14]
    assert [zoa[f"{name}_2"] for name in ("hits", "changes", "alarms", "others")] == [6, 12, 0, 2]
    assert zoa["hit_rate"] == pytest.approx(4 / 12)
    assert zoa["false_alarm_rate"] == pytest.approx(4 / 14)
    assert table.loc[table["adapter_label"] == "tent", "hits_1"].isna().all()


@pytest.mark.parametrize(
    "columns", [{"stream.reset": "collapse"}, {"stream.batch_size": None}, {"stream.batch_size": 2 * BATCH}]
)
def test_options_of_the_stream_say_nothing_of_its_batches(folder: Path, columns: dict[str, object]) -> None:
    before = adaptation(changed(folder, adapter_facts=TOLD))
    pd.testing.assert_frame_equal(adaptation(changed(folder, adapter_facts=TOLD, **columns)), before)


def test_collapses_are_counted(folder: Path) -> None:
    run = changed(folder, collapsed_at=700)
    table = adaptation(run)
    assert list(table["collapsed"]) == [0, 2, 0, 2]
    text = " ".join(of_adapters(table))
    assert "It collapsed in 4 of 4\xa0trials: with full precision and rtn W4A4." in text
    assert "No trial collapsed" not in text


def test_words_are_those_of_the_numbers(folder: Path) -> None:
    table = adaptation(changed(folder, adapter_facts=TOLD))
    tent, zoa, collapse = (text.replace("\xa0", " ") for text in of_adapters(table))
    row = table[(table["network"] == "rtn W4A4") & (table["adapter_label"] == "tent")].iloc[0]
    assert f"from {row['unadapted_error'] * 100:.1f} % to {row['error'] * 100:.1f} %" in tent
    assert "A batch costs 1 forward, 1 backward and takes 2 times as long as without adaptation." in tent
    assert "domain" not in tent.replace("holds across domains", "")
    assert "A batch costs 3 forwards and takes 3 times as long" in zoa
    assert (
        "It reported 8 of 24 changes of domain (33.3 %) with the first batch that shows the new one, 12 within 2" in zoa
    )
    assert "in 8 of 28 other batches (28.6 %) it reported a change that was none" in zoa
    assert collapse.startswith("No trial collapsed")


@pytest.mark.parametrize(("sign", "word"), [(-1, "It helps most with"), (1, "It harms most with")])
def test_of_many_pairs_the_shown_ones_are_counted(folder: Path, sign: int, word: str) -> None:
    row = adaptation(store.load(folder)).iloc[[0]]
    many = pd.concat(
        [
            row.assign(network=f"n{k}", difference=sign * k / 100, low=sign * k / 100 - 0.001, p=p).assign(
                high=sign * k / 100 + 0.001
            )
            for k, p in ((1, 0.5), (2, 0.01), (3, 0.001), (4, 0.9))
        ],
        ignore_index=True,
    )
    text = next(of_adapters(many)).replace("\xa0", " ")
    counts = ("2", "none") if sign < 0 else ("none", "2")
    assert (
        f"lowers the error in {counts[0]} of 4 pairs of network and stream and raises it in {counts[1]}; in 2" in text
    )
    assert f"{word} n3: by 3.0 points (95 % interval 2.9 to 3.1; p = 0.001)." in text
    unclear = next(of_adapters(many.assign(p=0.5))).replace("\xa0", " ")
    assert "in none of 4 pairs" in unclear
    assert "The lowest difference is" in unclear


def test_without_an_adapter_there_is_no_row(tmp_path: Path) -> None:
    folder = make_run(tmp_path, tasks=["a"], adapters=["none"], streams=["usual"], domains=["fog"], images=20)
    assert adaptation(store.load(folder)).empty
