from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from benchmarks.published_networks import randomised, timm_row
from evalsuite.errors import RequestError
from evalsuite.tasks._networks import named_network, published_evaluation
from evalsuite.torchvision_compat import import_torchvision

import_torchvision()
import timm  # noqa: E402
import timm.data  # noqa: E402

IMAGES = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_files_in_timm_s_layout_are_what_timm_s_own_loader_makes_of_them(name: str, tmp_path: Path):
    row = timm_row(name, tmp_path)
    assert row["difference"] == 0
    assert row["logits"] > 0.1
    assert row["preparation"] == 0


def original_convnext(name: str) -> str:
    """A key of timm's ConvNeXt in its authors' file (github.com/facebookresearch/ConvNeXt)."""
    for pattern, replacement in (
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"^stages\.(\d)\.blocks\.", r"stages.\1."),
        (r"\.conv_dw\.", ".dwconv."),
        (r"\.mlp\.fc([12])\.", r".pwconv\1."),
        (r"^head\.fc\.", "head."),
        (r"^head\.norm\.", "norm."),
    ):
        name = re.sub(pattern, replacement, name)
    return name


def test_a_file_in_its_authors_layout_is_translated_as_timm_translates_it(tmp_path: Path):
    source = randomised(timm.create_model("convnext_atto", num_classes=7))
    authors = {original_convnext(name): tensor for name, tensor in source.state_dict().items()}
    assert "downsample_layers.1.0.weight" in authors
    torch.save({"model": authors}, tmp_path / "authors.pth")
    network = named_network("timm:convnext_atto", tmp_path / "authors.pth", 7, None)
    torch.testing.assert_close(network(IMAGES), source(IMAGES), rtol=0, atol=0)


@pytest.mark.parametrize("fault", ["classes", "missing", "infinite"])
def test_no_value_stays_at_random(tmp_path: Path, fault: str):
    state = timm.create_model("test_vit", num_classes=7).state_dict()
    if fault == "missing":
        del state["blocks.0.attn.qkv.weight"]
    if fault == "infinite":
        state["norm.bias"][0] = torch.nan
    torch.save(state, tmp_path / "mine.pth")
    said = "is broken" if fault == "infinite" else "does not fit VisionTransformer"
    with pytest.raises(RequestError, match=rf"mine\.pth {said}") as caught:
        named_network("timm:test_vit", tmp_path / "mine.pth", 5 if fault == "classes" else 7, None)
    assert "\n" not in str(caught.value)


def expressible(right: dict) -> bool:
    return right["crop_mode"] != "border" and right["input_size"][1] == right["input_size"][2]


def test_preparation_is_timm_s():
    configurations = {name: timm.get_pretrained_cfg(name).to_dict() for name in timm.list_pretrained()[::30]}
    expected = {name: timm.data.resolve_data_config({}, pretrained_cfg=one) for name, one in configurations.items()}
    assert {one["crop_mode"] for one in expected.values()} >= {"center", "squash"}
    for name, right in expected.items():
        if not expressible(right):
            with pytest.raises(RequestError, match="expected all of the options size, crop"):
                published_evaluation(f"timm:{name}")
            continue
        shown = published_evaluation(f"timm:{name}")
        assert (3, shown.preparation.crop, shown.preparation.crop) == right["input_size"]
        assert shown.preparation.size == int(right["input_size"][1] / right["crop_pct"])
        assert shown.preparation.interpolation == right["interpolation"]
        assert (shown.preparation.resize == "both sides") == (right["crop_mode"] == "squash")
        assert (shown.mean, shown.std) == (right["mean"], right["std"])
    assert sum(map(expressible, expected.values())) > 0.9 * len(expected)
    assert published_evaluation("timm:vit_small_patch16_224").mean == (0.5, 0.5, 0.5)


def test_a_preparation_that_cannot_be_expressed_and_a_misspelt_tag():
    with pytest.raises(RequestError, match="timm evaluates vit_base_patch16_sapiens2 on 1024 x 768 pixels"):
        published_evaluation("timm:vit_base_patch16_sapiens2")
    with pytest.raises(
        RequestError, match=r"unknown timm network 'test_vit\.r161_in1k': did you mean 'test_vit\.r160_"
    ):
        published_evaluation("timm:test_vit.r161_in1k")
