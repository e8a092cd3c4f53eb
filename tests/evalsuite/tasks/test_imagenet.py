from __future__ import annotations

import csv
import io
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from evalsuite.errors import RequestError
from evalsuite.hashing import digest_arrays
from evalsuite.registry import configure
from evalsuite.running.task_data import normalise
from evalsuite.tasks._imagenet_sample import STEM
from evalsuite.tasks.imagenet import DeiTTiny, MobileNetV2
from evalsuite.torchvision_compat import import_torchvision


def picture(seed: int, size: tuple[int, int] = (256, 259), kind: str = "png") -> bytes:
    """An image file (lossless here) of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[0], size[1], 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def write_sample(root: Path, files: dict[str, bytes], packed: bool = True) -> None:
    with (root / f"{STEM}.csv").open("w", newline="") as text:
        rows = csv.writer(text)
        rows.writerow(["file", "label", "wnid", "name"])
        for label, name in enumerate(files):
            rows.writerow([name, label, f"n{label:08}", "crane" if label in (1, 3) else f"thing {label}"])
    if not packed:
        (root / STEM).mkdir()
        for name, content in files.items():
            (root / STEM / name).write_bytes(content)
        return
    with tarfile.open(root / f"{STEM}.tar", "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def files() -> dict[str, bytes]:
    return {f"{i}.jpg": picture(i) for i in range(5)}


def test_sample(tmp_path: Path, files: dict[str, bytes]) -> None:
    write_sample(tmp_path, files)
    data = MobileNetV2().data(str(tmp_path))
    assert data.test_images.shape == (4, 224, 224, 3)
    assert data.pool_images.shape == (1, 224, 224, 3)
    assert sorted([*data.test_labels, *data.pool_labels]) == [0, 1, 2, 3, 4]
    assert data.classes == ("thing 0", "crane (n00000001)", "thing 2", "crane (n00000003)", "thing 4")
    label = data.test_labels[0]
    whole = np.asarray(Image.open(io.BytesIO(files[f"{label}.jpg"])))
    assert (data.test_images[0] == whole[16:240, 18:242]).all()


def test_crop_is_torchvisions(tmp_path: Path) -> None:
    crop = import_torchvision().transforms.CenterCrop(224)
    for width in (224, 225, 257, 259, 260):
        content = picture(width, (256, width))
        write_sample(tmp_path, {f"{k}.jpg": content for k in range(5)})
        expected = np.asarray(crop(Image.open(io.BytesIO(content))))
        assert (MobileNetV2().data(str(tmp_path)).test_images[0] == expected).all()


def test_unpacked_sample_is_the_same(tmp_path: Path, files: dict[str, bytes]) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write_sample(tmp_path / "a", files)
    write_sample(tmp_path / "b", files, packed=False)
    packed, unpacked = (DeiTTiny().data(str(tmp_path / folder)) for folder in "ab")
    for name in ("test_images", "test_labels", "pool_images", "pool_labels"):
        assert digest_arrays(getattr(packed, name)) == digest_arrays(getattr(unpacked, name))
    (tmp_path / "b" / STEM / "2.jpg").unlink()
    with pytest.raises(RequestError, match=r"no file .*2\.jpg"):
        DeiTTiny().data(str(tmp_path / "b"))


def test_grey_images_become_colour(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("L", (224, 224), 7).save(stream, "png")
    write_sample(tmp_path, {f"{k}.jpg": stream.getvalue() for k in range(5)})
    assert (DeiTTiny().data(str(tmp_path)).test_images == 7).all()


def complaint(root: Path) -> str:
    with pytest.raises(RequestError) as caught:
        DeiTTiny().data(str(root))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_missing_files(tmp_path: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(RequestError, match="--data-root"):
        DeiTTiny().data(None)
    assert re.search(rf"no file .*{STEM}\.csv", complaint(tmp_path))
    write_sample(tmp_path, files)
    (tmp_path / f"{STEM}.tar").unlink()
    assert re.search(rf"no file .*{STEM}\.tar: expected the JPEGs .* or a folder {STEM}", complaint(tmp_path))
    for task, name in ((DeiTTiny(), "imagenet_deit_tiny"), (MobileNetV2(), "imagenet_mobilenetv2_folded")):
        with pytest.raises(RequestError, match=rf"no file .*weights/{name}\.pt"):
            task.model(str(tmp_path))


def test_broken_archives(tmp_path: Path, files: dict[str, bytes]) -> None:
    write_sample(tmp_path, files)
    archive = tmp_path / f"{STEM}.tar"
    whole = archive.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:700], b"", b"no archive"):
        archive.write_bytes(content)
        assert re.search(rf"{STEM}\.tar is broken", complaint(tmp_path))
    write_sample(tmp_path, {**files, "5.jpg": b""})
    with tarfile.open(archive, "w"):
        pass
    assert re.search(rf"{STEM}\.tar is broken \(0\.jpg is missing\)", complaint(tmp_path))


def test_broken_images(tmp_path: Path, files: dict[str, bytes]) -> None:
    for content in (b"", b"no picture", files["0.jpg"][:5000], picture(0, (223, 300))):
        write_sample(tmp_path, {**files, "5.jpg": content})
        assert re.search(r"5\.jpg is broken .*expected an image of at least 224 x 224", complaint(tmp_path))


@pytest.mark.parametrize(
    "table",
    ["", "file,label,wnid,name\n", "file,label\na.jpg,0\n", "file,label,wnid,name\na.jpg,x,n0,a\n",
     "file,label,wnid,name\na.jpg,1,n0,a\n", "file,label,wnid,name\na.jpg\n"],
    ids=["empty", "no rows", "columns", "label", "gap", "short"],
)  # fmt: skip
def test_broken_tables(tmp_path: Path, table: str) -> None:
    (tmp_path / f"{STEM}.csv").write_text(table)
    assert f"{STEM}.csv is broken" in complaint(tmp_path)


def mobilenet_file(source: nn.Module) -> dict[str, torch.Tensor]:
    """Torchvision's MobileNetV2 as the file has it: norms folded, layers called by what they do."""
    tensors = {}

    def put(name: str, conv: nn.Module, norm: nn.Module) -> None:
        fused = fuse_conv_bn_eval(conv, norm)
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = fused.weight.detach(), fused.bias.detach()

    for i, feature in enumerate(source.features):
        if i in (0, 18):
            put(f"features.{i}", feature[0], feature[1])
            continue
        *activated, project, norm = feature.conv
        for name, layer in zip(["expand", "dw"][-len(activated) :], activated, strict=True):
            put(f"features.{i}.{name}", layer[0], layer[1])
        put(f"features.{i}.project", project, norm)
    classifier = source.classifier[1]
    return tensors | {f"classifier.{name}": value.detach() for name, value in classifier.named_parameters()}


def test_mobilenet_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = import_torchvision().models.mobilenet_v2().eval()
    for module in source.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
    tensors = mobilenet_file(source)
    assert len(tensors) == 106
    (tmp_path / "weights").mkdir()
    torch.save(tensors, tmp_path / "weights" / "imagenet_mobilenetv2_folded.pt")
    network = MobileNetV2().model(str(tmp_path))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(images), source(images), rtol=1e-3, atol=1e-4)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 52
    assert all(module.bias is not None for module in convolutions)
    kinds = {type(module).__name__ for module in network.modules() if not list(module.children())}
    assert kinds == {"Conv2d", "ReLU6", "Linear", "Dropout"}
    assert not any(getattr(module, "inplace", False) for module in network.modules() if isinstance(module, nn.ReLU6))


def test_deit_weights(tmp_path: Path) -> None:
    import_torchvision()
    import timm

    source = timm.create_model("deit_tiny_patch16_224").eval()
    nn.init.normal_(source.head.weight)
    (tmp_path / "weights").mkdir()
    file = tmp_path / "weights" / "imagenet_deit_tiny.pt"
    torch.save(source.state_dict(), file)
    assert len(source.state_dict()) == 152
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(DeiTTiny().model(str(tmp_path))(images), source(images), rtol=0, atol=0)
    torch.save({**source.state_dict(), "head.bias": torch.full((1000,), torch.nan)}, file)
    with pytest.raises(RequestError, match=r"imagenet_deit_tiny\.pt is broken \(head\.bias is not finite\)"):
        DeiTTiny().model(str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "known"), [("deit_tiny", 71), ("mobilenet_v2", 83)])
def test_as_many_of_the_first_images_are_right_as_when_all_were_measured(
    name: str, known: int, data_root: Path
) -> None:
    """``benchmarks/accuracy.py`` takes all 1,000."""
    task = configure("tasks", f"imagenet/{name}").build()
    network, data = task.model(str(data_root)), task.data(str(data_root))
    assert (len(data.test_images), len(data.pool_images), len(data.classes)) == (800, 200, 1000)
    assert len(set(data.classes)) == 1000
    right = 0
    with torch.no_grad():
        for start in range(0, 96, 8):
            predictions = network(normalise(data.test_images[start : start + 8], data)).argmax(1).numpy()
            right += int((predictions == data.test_labels[start : start + 8]).sum())
    assert right == pytest.approx(known, abs=1)
