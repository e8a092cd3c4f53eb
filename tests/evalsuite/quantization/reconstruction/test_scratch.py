from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from _dummies.models import random_images, tiny_resnet

from evalsuite.errors import Refused
from evalsuite.layout import Layout
from evalsuite.quantization.graph.hooks import stand_ins
from evalsuite.quantization.reconstruction.scratch import Kept, Scratch

X = random_images(70)


def test_what_exceeds_the_limit_lies_in_files_that_vanish(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    like = torch.zeros(1)
    with Scratch(100) as scratch:
        scratch.empty((5, 5), like).fill_(1)  # 100 bytes: fits
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]
        scratch.empty((2, 3), like).fill_(2)
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert [Path(path).stat().st_size for path in files] == [24]
    assert not list(tmp_path.iterdir())


def test_room_that_is_released_is_used_again():
    with Scratch(100) as scratch:
        first = scratch.empty((5, 5), torch.zeros(1))
        scratch.release(first.view(25))
        assert scratch._left == 100
    with Scratch(0) as scratch:
        large = scratch.empty((5, 5), torch.zeros(1)).fill_(3)
        scratch.release(large)
        assert not list(Path(scratch._folder.name).iterdir())
        assert large.sum() == 75  # its pages live as long as it does


@pytest.mark.parametrize("limit", [0, 1e9])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_rows_come_back_as_they_came(limit, layout):
    x = X.contiguous(memory_format=layout)
    with Scratch(limit) as scratch:
        kept = Kept(len(x), scratch)
        for start in range(0, len(x), 16):
            kept.add(x[start : start + 16])
        assert torch.equal(kept.rows, x)
        chosen = torch.tensor([5, 3, 5])
        taken = kept.take(chosen, x)
        assert torch.equal(taken, x[chosen])
        assert taken.is_contiguous(memory_format=layout)
        taken.zero_()
        assert torch.equal(kept.rows, x)
        assert kept.finite()
        kept.rows[7, 0, 0, 0] = float("nan")
        assert not kept.finite()
        kept.rows[7, 0, 0, 0] = 3e38
        kept.rows[7, 0, 0, 1] = 3e38
        assert kept.finite()
        kept.release()
        kept.release()


def test_stand_ins_go_again_even_after_an_error():
    model = tiny_resnet()
    own = lambda x: x
    model.layer1.__dict__["forward"] = own
    before = model(X)

    def fail() -> None:
        with stand_ins(model, {"layer1": torch.zeros_like, "layer2.1": torch.zeros_like}):
            assert not torch.equal(model(X), before)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert model.layer1.__dict__["forward"] is own
    assert "forward" not in model.layer2[1].__dict__
    assert torch.equal(model(X), before)


@pytest.mark.parametrize("layout", [Layout(), Layout(1), Layout(0, 1, 2), Layout(1, 2, 1)])
def test_rows_that_nobody_wrote_are_refused(layout):
    rows = torch.randn(6, 2, 5) if layout.parts == 2 else torch.randn(6, 5)
    with Scratch(1e9) as scratch:
        kept = Kept(6, scratch, "what x gives", layout)
        for access in (lambda: kept.rows, kept.finite, lambda: kept.take(torch.tensor([0]), rows)):
            with pytest.raises(Refused, match=r"^what x gives: 0 rows for 6 images"):
                access()
        kept.add(layout.restore(rows[:4]))
        for access in (lambda: kept.rows, kept.finite, lambda: kept.take(torch.tensor([0]), rows)):
            with pytest.raises(Refused, match=r"^what x gives: 4 rows for 6 images"):
                access()
        kept.add(layout.restore(rows[4:]))
        assert torch.equal(kept.rows, rows)
        assert torch.equal(kept.take(torch.tensor([5, 1]), rows), layout.restore(rows[[5, 1]]))
        assert torch.equal(torch.cat([layout.rows(part) for part in kept.parts(4)]), rows)
        with pytest.raises(Refused, match="what x gives"):
            kept.add(layout.restore(rows[:1]))


def test_what_is_the_same_for_all_images_is_kept_once():
    table = torch.randn(3, 4)
    with Scratch(1e9) as scratch:
        kept = Kept(6, scratch, layout=Layout(None))
        kept.add(table)
        kept.add(table)
        assert kept.rows.shape == (1, 3, 4)
        assert torch.equal(kept.take(torch.tensor([5, 1]), table), table)
        assert [part.shape for part in kept.parts(2)] == [table.shape]
