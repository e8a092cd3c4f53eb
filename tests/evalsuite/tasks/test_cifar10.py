from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from evalsuite.errors import RequestError
from evalsuite.models.cifar_resnet import PreActivationResNet, ResNet
from evalsuite.models.vit import VisionTransformer
from evalsuite.registry import configure
from evalsuite.running.task_data import normalise
from evalsuite.streams import Domain
from evalsuite.tasks.cifar10 import CIFAR10, ResNet20, ResNet26GN, ResNet56, ViT

BATCHES = CIFAR10.folder


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (n, 32, 32, 3), np.uint8), generator.integers(0, 10, n, np.uint8)


def write_arrays(root: Path, *stems: str) -> None:
    for seed, stem in enumerate(stems):
        images, labels = drawn(3, seed)
        np.save(root / f"{stem}_images.npy", images)
        np.save(root / f"{stem}_labels.npy", labels)


def write_batches(root: Path) -> None:
    """Torchvision's folder, with pickles of the protocol that CIFAR's are in."""
    (root / BATCHES).mkdir()
    for seed, name in enumerate(["test_batch", *(f"data_batch_{i}" for i in range(1, 6))]):
        images, labels = drawn(4, seed)
        batch = {"data": images.transpose(0, 3, 1, 2).reshape(4, -1), "labels": labels.tolist()}
        (root / BATCHES / name).write_bytes(pickle.dumps(batch, protocol=2))


def write_weights(root: Path, name: str, tensors: dict) -> None:
    (root / "weights").mkdir(exist_ok=True)
    torch.save(tensors, root / "weights" / name)


def test_arrays(tmp_path: Path) -> None:
    write_arrays(tmp_path, "cifar10_test", "cifar10_train5k")
    data = ResNet20().data(str(tmp_path))
    for got, expected in zip((data.test_images, data.test_labels), drawn(3, 0), strict=True):
        assert (got == expected).all()
    for got, expected in zip((data.pool_images, data.pool_labels), drawn(3, 1), strict=True):
        assert (got == expected).all()
    assert isinstance(data.test_images, np.memmap)
    assert data.test_labels.dtype == np.int64
    assert data.classes[3] == "cat"
    assert ResNet26GN().data(str(tmp_path)).mean == (0.5, 0.5, 0.5)


def test_torchvision_folder(tmp_path: Path) -> None:
    write_batches(tmp_path)
    data = ViT().data(str(tmp_path))
    assert (data.test_images == drawn(4, 0)[0]).all()
    assert (data.test_labels == drawn(4, 0)[1]).all()
    assert data.pool_images.shape == (20, 32, 32, 3)
    assert (data.pool_images[4:8] == drawn(4, 2)[0]).all()
    assert data.std == (0.2470, 0.2435, 0.2616)


def python_2_batch(pixels: bytes, label: int) -> bytes:
    """A batch of one image, opcode by opcode as Python 2 wrote the published files: its strings are bytes."""
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    state = b"(K\x01K\x01M\x00\x0c\x86" + dtype + b"\x89T" + len(pixels).to_bytes(4, "little") + pixels + b"tb"
    return b"\x80\x02}(U\x04data" + array + state + b"U\x06labels](K" + bytes([label]) + b"eu."


def test_published_pickles(tmp_path: Path) -> None:
    write_batches(tmp_path)
    images, _ = drawn(1, 7)
    content = python_2_batch(images.transpose(0, 3, 1, 2).tobytes(), 6)
    (tmp_path / BATCHES / "test_batch").write_bytes(content)
    data = ResNet20().data(str(tmp_path))
    assert (data.test_images == images).all()
    assert data.test_labels.tolist() == [6]


def test_arrays_come_first(tmp_path: Path) -> None:
    write_batches(tmp_path)
    write_arrays(tmp_path, "cifar10_test", "cifar10_train5k")
    assert len(ViT().data(str(tmp_path)).test_images) == 3


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--data-root"):
        ResNet20().data(None)
    with pytest.raises(RequestError, match="--data-root"):
        ResNet20().model(None)
    with pytest.raises(RequestError, match=r"no file .*cifar10_test_images\.npy"):
        ResNet20().data(str(tmp_path))
    write_arrays(tmp_path, "cifar10_test")
    with pytest.raises(RequestError, match=r"no file .*cifar10_train5k_images\.npy"):
        ResNet20().data(str(tmp_path))
    with pytest.raises(RequestError, match=r"no file .*weights/cifar10_vit_d128_l4\.pt"):
        ViT().model(str(tmp_path))


def test_labels_must_be_as_many_as_images(tmp_path: Path) -> None:
    write_arrays(tmp_path, "cifar10_test", "cifar10_train5k")
    np.save(tmp_path / "cifar10_test_labels.npy", np.zeros(2, np.uint8))
    with pytest.raises(RequestError, match=r"cifar10_test_labels\.npy is broken \(shape \(2,\)\): expected 3 labels"):
        ResNet20().data(str(tmp_path))


class Intruder:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return Path.touch, (self.file,)


def test_pickles_run_nothing(tmp_path: Path) -> None:
    write_batches(tmp_path)
    traces = tmp_path / "traces"
    (tmp_path / BATCHES / "data_batch_3").write_bytes(pickle.dumps({"data": Intruder(traces)}, protocol=2))
    with pytest.raises(RequestError, match=r"data_batch_3 is broken \(it asks for \w+\.\w+, which no CIFAR batch"):
        ResNet20().data(str(tmp_path))
    assert not traces.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        pickle.dumps({"data": drawn(2, 0)[0].reshape(2, -1)}, protocol=2),
        pickle.dumps({"data": drawn(2, 0)[0], "labels": [0, 1]}, protocol=2),
        pickle.dumps({"data": [1, 2], "labels": [0, 1]}, protocol=2),
        pickle.dumps({"data": drawn(2, 0)[0].reshape(2, -1), "labels": [0, 10]}, protocol=2),
        pickle.dumps({"data": drawn(2, 0)[0].reshape(2, -1), "labels": [0]}, protocol=2),
        pickle.dumps([1, 2], protocol=2),
        pickle.dumps(drawn(2, 0)[0], protocol=2)[:500],
        b"\x80\x02c_codecs\nencode\n(U\x01xU\x05rot13tR.",
    ],
    ids=["empty", "text", "no labels", "shape", "type", "label", "count", "list", "truncated", "codec"],
)
def test_broken_batches(tmp_path: Path, content: bytes) -> None:
    write_batches(tmp_path)
    (tmp_path / BATCHES / "test_batch").write_bytes(content)
    with pytest.raises(RequestError, match="test_batch is broken") as caught:
        ResNet20().data(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_missing_batch(tmp_path: Path) -> None:
    write_batches(tmp_path)
    (tmp_path / BATCHES / "data_batch_5").unlink()
    with pytest.raises(RequestError, match=r"no file .*data_batch_5"):
        ResNet20().data(str(tmp_path))


@pytest.mark.parametrize(("task", "blocks", "depth"), [(ResNet20(), 3, 20), (ResNet56(), 9, 56)])
def test_option_a_weights(tmp_path: Path, task, blocks: int, depth: int) -> None:
    source = ResNet(blocks=blocks, classes=10).eval()
    tensors = {name: value for name, value in source.state_dict().items() if "num_batches" not in name}
    tensors["linear.weight"], tensors["linear.bias"] = tensors.pop("fc.weight"), tensors.pop("fc.bias")
    write_weights(tmp_path, f"cifar10_resnet{depth}_optA.pt", tensors)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(task.model(str(tmp_path))(images), source(images), rtol=0, atol=0)
    write_weights(tmp_path, f"cifar10_resnet{depth}_optA.pt", {**tensors, "linear.bias": torch.zeros(100)})
    with pytest.raises(RequestError, match=r"optA\.pt does not fit ResNet \(fc\.bias has shape \(100,\)\)"):
        task.model(str(tmp_path))


def test_group_norm_weights(tmp_path: Path) -> None:
    source = PreActivationResNet(blocks=4, classes=10).eval()
    write_weights(tmp_path, "cifar10_resnet26_gn.pt", source.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ResNet26GN().model(str(tmp_path))(images), source(images), rtol=0, atol=0)


def test_vit_weights(tmp_path: Path) -> None:
    source = VisionTransformer(32, patch=4, width=128, depth=4, heads=4, hidden=256, classes=10).eval()
    names = {
        r"^patch_embed\.proj": "embedding.patch_embeddings.conv",
        r"^cls_token": "embedding.cls_token",
        r"^pos_embed": "embedding.pos_embeddings",
        r"^blocks": "encoder.layers",
        r"attn\.proj": "attn.out_proj",
        r"mlp": "ffn",
        r"(norm\d?)\.weight": r"\1.alpha",
        r"(norm\d?)\.bias": r"\1.beta",
        r"^head": "mlp_head",
    }
    tensors = {}
    for name, tensor in source.state_dict().items():
        for pattern, replacement in names.items():
            name = re.sub(pattern, replacement, name)
        if "qkv" in name:
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                tensors[name.replace("qkv", part)] = rows
        else:
            tensors[name] = tensor
    assert len(tensors) == 72
    write_weights(tmp_path, "cifar10_vit_d128_l4.pt", tensors)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ViT().model(str(tmp_path))(images), source(images), rtol=0, atol=0)
    key = "encoder.layers.2.attn.key.bias"
    for wrong in ({**tensors, key: torch.zeros(3)}, {k: v for k, v in tensors.items() if k != key}):
        write_weights(tmp_path, "cifar10_vit_d128_l4.pt", wrong)
        with pytest.raises(RequestError, match=r"blocks\.2\.attn\.qkv\.bias is missing"):
            ViT().model(str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "known"), [("resnet20", 455), ("resnet56", 470), ("resnet26_gn", 457), ("vit", 349)])
def test_as_many_of_the_first_images_are_right_as_when_all_gave_the_published_accuracy(
    name: str, known: int, data_root: Path
) -> None:
    """``benchmarks/accuracy.py`` takes all 10,000."""
    task = configure("tasks", f"cifar10/{name}").build()
    network, data = task.model(str(data_root)), task.data(str(data_root))
    assert len(data.test_images) == 10_000
    right = 0
    with torch.no_grad():
        for start in range(0, 500, 20):
            predictions = network(normalise(np.array(data.test_images[start : start + 20]), data)).argmax(1).numpy()
            right += int((predictions == data.test_labels[start : start + 20]).sum())
    assert right == pytest.approx(known, abs=1)


def test_cifar_10_1(tmp_path: Path) -> None:
    write_arrays(tmp_path, "cifar10_test", "cifar10_train5k")
    with pytest.raises(RequestError, match=r"no file .*cifar10\.1_v6_data\.npy"):
        ResNet20(test_set="cifar10.1-v6").data(str(tmp_path))
    images, labels = drawn(5, 9)
    np.save(tmp_path / "cifar10.1_v6_data.npy", images)
    np.save(tmp_path / "cifar10.1_v6_labels.npy", labels.astype(np.int32))
    data = ResNet20(test_set="cifar10.1-v6").data(str(tmp_path))
    assert (data.test_images == images).all()
    assert (data.test_labels == labels).all()
    assert (data.pool_images == drawn(3, 1)[0]).all()
    assert data.data_set == "cifar10.1-v6"
    with pytest.raises(RequestError, match=r"test_set = 'cifar10\.2'"):
        configure("tasks", "cifar10/resnet20", {"test_set": "cifar10.2"})


def test_cifar_10_c(tmp_path: Path) -> None:
    write_arrays(tmp_path, "cifar10_test", "cifar10_train5k")
    labels = drawn(3, 0)[1]
    shown = np.random.default_rng(3).integers(0, 256, (15, 32, 32, 3), dtype=np.uint8)
    (tmp_path / "CIFAR-10-C").mkdir()
    np.save(tmp_path / "CIFAR-10-C" / "gaussian_noise.npy", shown)
    np.save(tmp_path / "CIFAR-10-C" / "labels.npy", np.tile(labels, 5))
    files = ViT().published(str(tmp_path), Domain("gaussian_noise", 2), np.arange(3))
    assert (files.read(np.arange(3)) == shown[3:6]).all()
    with pytest.raises(RequestError, match=r"no file .*CIFAR-10-C/fog\.npy"):
        ViT().published(str(tmp_path), Domain("fog", 1), np.arange(3))
    with pytest.raises(RequestError, match=r"nobody published cifar10\.1-v4 corrupted"):
        ViT(test_set="cifar10.1-v4").published(str(tmp_path), Domain("fog", 1), np.arange(3))
