from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F

from evalsuite.hashing import digest_arrays, digest_tensors
from evalsuite.plugins import TaskData
from evalsuite.registry import configure
from evalsuite.tasks import digits
from evalsuite.tasks.train_digits import accuracy, normalised

TASKS = ["digits/resnet", "digits/vit"]


@pytest.fixture(scope="module")
def splits() -> dict:
    return digits.splits()


@pytest.fixture(scope="module")
def data() -> TaskData:
    return digits.DigitsResNet().data(None)


def test_parts_are_stratified_disjoint_and_everything(splits: dict) -> None:
    assert {name: len(labels) for name, (_, labels) in splits.items()} == {"test": 600, "pool": 320, "train": 877}
    assert np.bincount(splits["test"][1]).tolist() == [60] * 10
    assert np.bincount(splits["pool"][1]).tolist() == [32] * 10
    everything = np.concatenate([images for images, _ in splits.values()])
    assert everything.shape == (1797, 32, 32, 3)
    assert len(np.unique(everything.reshape(1797, -1), axis=0)) == 1797


def test_the_split_never_changes(splits: dict) -> None:
    found = {name: digest_arrays(images, labels) for name, (images, labels) in splits.items()}
    assert found == {"test": "ff0007523dc6e6a9", "pool": "a5eed9a9dc8a5717", "train": "84cff3c5ac6c1085"}


def test_rendering_is_bilinear_between_paper_and_ink() -> None:
    scans = np.random.default_rng(0).integers(0, 17, (5, 8, 8))
    paper = digits.render(np.zeros_like(scans)).astype(float)
    ink = digits.render(np.full_like(scans, 16)).astype(float)
    assert paper.std(axis=(1, 2)).max() == ink.std(axis=(1, 2)).max() == 0
    assert (paper > ink).all()
    enlarged = F.interpolate(torch.from_numpy(scans)[:, None].double(), scale_factor=4, mode="bilinear")
    share = enlarged.permute(0, 2, 3, 1).numpy() / 16
    assert np.abs(digits.render(scans) - (paper + (ink - paper) * share)).max() <= 0.5 + 1e-9


def test_images_leave_room_above_and_below(data: TaskData) -> None:
    assert data.test_images.min() >= 5
    assert data.test_images.max() <= 235


def test_normalisation_is_that_of_the_training_images(splits: dict) -> None:
    images = splits["train"][0] / 255
    np.testing.assert_allclose(images.mean((0, 1, 2)), digits.MEAN, atol=0.01)
    np.testing.assert_allclose(images.std((0, 1, 2)), digits.STD, atol=0.01)


def test_data_is_the_same_every_time(data: TaskData) -> None:
    again = digits.DigitsViT().data("/nowhere")
    assert digest_arrays(again.test_images, again.pool_images) == digest_arrays(data.test_images, data.pool_images)
    assert (data.mean, data.std, data.classes) == (digits.MEAN, digits.STD, tuple("0123456789"))


@pytest.mark.parametrize("name", TASKS)
def test_at_least_97_percent_of_the_test_images_are_recognised(name: str, data: TaskData) -> None:
    network = configure("tasks", name).build().model(None)
    assert not network.training
    assert accuracy(network, normalised(data.test_images), torch.from_numpy(data.test_labels)) >= 0.97


def test_shipped_weights(splits: dict) -> None:
    expected = {"digits_resnet": "3b65173096d2b6aa", "digits_vit": "e15aeb41515cbd30"}
    networks = {"digits_resnet": digits.DigitsResNet(), "digits_vit": digits.DigitsViT()}
    assert {name: digest_tensors(task.model(None).state_dict()) for name, task in networks.items()} == expected
    for name in expected:
        with safe_open(digits.WEIGHTS / f"{name}.safetensors", framework="np") as file:
            assert file.metadata()["training_images"] == digest_arrays(*splits["train"])
    assert sum(file.stat().st_size for file in digits.WEIGHTS.iterdir()) < 2e6


def test_architectures() -> None:
    network = digits.DigitsResNet().model(None)
    assert [len(stage) for stage in (network.layer1, network.layer2, network.layer3)] == [2, 2, 2]
    assert network.layer2[0].downsample[0].kernel_size == (1, 1)
    assert len(digits.DigitsViT().model(None).blocks) == 8
    assert (digits.DigitsResNet.architecture, digits.DigitsViT.architecture) == ("cnn", "transformer")
