from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from evalsuite.errors import RequestError
from evalsuite.tasks._files import (
    check_labels,
    data_folder,
    load_array,
    load_checkpoint,
    load_labels,
    load_tensors,
    load_weights,
)


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))


def test_the_folder_must_be_given_and_exist(tmp_path: Path) -> None:
    assert data_folder(str(tmp_path), "x.npy") == tmp_path
    with pytest.raises(RequestError, match=r"--data-root DIR or set EVALSUITE_DATA.*x\.npy"):
        data_folder(None, "x.npy")
    with pytest.raises(RequestError, match="nowhere does not exist"):
        data_folder(str(tmp_path / "nowhere"), "x.npy")


def test_arrays_are_mapped_not_read(tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    np.save(file, np.arange(12, dtype=np.uint8).reshape(2, 6))
    array = load_array(file, (None, 6), "rows of 6")
    assert isinstance(array, np.memmap)
    assert not array.flags.writeable
    assert array.sum() == 66


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 5), np.uint8), np.zeros((2, 6)), np.zeros((0, 6), np.uint8), np.zeros(6, np.uint8)],
    ids=["shape", "type", "empty", "dimensions"],
)
def test_wrong_arrays(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(RequestError, match=rf"x\.npy is broken \({array.dtype} of shape .*expected rows of 6"):
        load_array(tmp_path / "x.npy", (None, 6), "rows of 6")


def test_broken_arrays(tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    with pytest.raises(RequestError, match=r"no file .*x\.npy: expected rows"):
        load_array(file, (None, 6), "rows of 6")
    np.save(file, np.zeros((200, 6), np.uint8))
    whole = file.read_bytes()
    for content in (whole[:-1], whole[:20], b"", b"something else"):
        file.write_bytes(content)
        with pytest.raises(RequestError, match=r"x\.npy is broken") as caught:
            load_array(file, (None, 6), "rows of 6")
        assert "\n" not in str(caught.value)
    np.save(file, np.array([{}]))
    with pytest.raises(RequestError, match="is broken"):
        load_array(file, (None, 6), "rows of 6")


def test_labels(tmp_path: Path) -> None:
    file = tmp_path / "y.npy"
    labels = check_labels(np.array([0, 2], np.uint8), 2, 3, file)
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 2]
    for wrong in (np.array([0]), np.array([0, 3]), np.array([-1, 0]), np.array([0.0, 1.0]), np.array([[0], [1]])):
        with pytest.raises(RequestError, match=r"y\.npy is broken .* 2 labels, one per image, from 0 to 2"):
            check_labels(wrong, 2, 3, file)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_come_back(tmp_path: Path, suffix: str) -> None:
    source, file = network(), tmp_path / f"w.{suffix}"
    nn.init.normal_(source[1].weight)
    if suffix == "pt":
        state = {name: value for name, value in source.state_dict().items() if "num_batches" not in name}
        torch.save(state, file)
    else:
        save_file(source.state_dict(), file)
    before = torch.get_rng_state()
    loaded = load_weights(network, load_tensors(file), file)
    assert torch.equal(torch.get_rng_state(), before)
    assert not loaded.training
    images = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(loaded(images), source.eval()(images), rtol=0, atol=0)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_broken_weight_files(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"w.{suffix}"
    with pytest.raises(RequestError, match=rf"no file .*w\.{suffix}"):
        load_tensors(file)
    if suffix == "pt":
        torch.save(network().state_dict(), file)
    else:
        save_file(network().state_dict(), file)
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:10], b"", b"<html>not found</html>"):
        file.write_bytes(content)
        with pytest.raises(RequestError, match=rf"w\.{suffix} is broken .*expected a dictionary of weights") as caught:
            load_tensors(file)
        assert "\n" not in str(caught.value)


def test_weight_files_hold_nothing_but_tensors(tmp_path: Path) -> None:
    for content in (network(), [torch.zeros(1)], {"epoch": 3, "w": torch.zeros(1)}):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(RequestError, match="expected a dictionary of weights"):
            load_tensors(tmp_path / "w.pt")


def test_a_whole_module_is_told_from_its_weights(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "w.pt")
    with pytest.raises(RequestError, match=r"w\.pt is broken .*a whole module .*: save its state_dict") as caught:
        load_tensors(tmp_path / "w.pt")
    assert str(caught.value).isprintable()


def test_weights_must_fit(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    state = network().state_dict()
    wrong = {
        r"does not fit Sequential \(0.bias is missing\): expected its \d+ tensors": {
            name: value for name, value in state.items() if name != "0.bias"
        },
        r"does not fit Sequential \(2.weight is not among them\)": state | {"2.weight": torch.zeros(1)},
        r"does not fit Sequential \(0.weight has shape \(2, 3, 3, 3\)\): expected \(2, 3, 1, 1\)": state
        | {"0.weight": torch.zeros(2, 3, 3, 3)},
        r"is broken \(1.running_var is not finite": state | {"1.running_var": torch.tensor([1.0, torch.nan])},
        r"is broken \(1.weight is not finite": state | {"1.weight": torch.tensor([1.0, torch.inf])},
    }
    for reason, tensors in wrong.items():
        with pytest.raises(RequestError, match=rf"w\.pt {reason}") as caught:
            load_weights(network, tensors, file)
        assert "\n" not in str(caught.value)


HEADERS = [
    "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 6), ",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 99999999999999999999999), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 6), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (-2, 6), }",
    "{'descr': ('<i4', (2, 3)), 'fortran_order': False, 'shape': (2, 6), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (2, 6), }",
    "{'descr': '<U0', 'fortran_order': True, 'shape': (2, 6), }",  # ends the process in numpy's map
    "{'descr': '|V0', 'fortran_order': False, 'shape': (2,), }",
    "{'descr': [], 'fortran_order': False, 'shape': (2,), }",
    "{'descr': 5, 'fortran_order': None, 'shape': 'x', }",
    "((((((((((",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (2L, 6L), }",
    "5",
]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("version", [1, 2, 9])
def test_headers_that_are_none(tmp_path: Path, header: str, version: int) -> None:
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    file = tmp_path / "x.npy"
    file.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + size + header.encode() + bytes(12))
    for read in (lambda: load_array(file, (None, 6), "rows"), lambda: load_labels(file, 2, 3)):
        try:
            read()
        except RequestError as error:
            assert "\n" not in str(error)  # noqa: PT017 - numpy reads some of them
            continue
        assert "L" in header, "all others are refused"


@pytest.mark.parametrize("labels", [np.array(["a", "b"]), np.zeros(2, "datetime64[s]"), np.zeros(2, "i4,i4")])
def test_labels_that_are_no_numbers(tmp_path: Path, labels: np.ndarray) -> None:
    np.save(tmp_path / "y.npy", labels)
    with pytest.raises(RequestError, match=r"y\.npy is broken .*: expected 2 labels"):
        load_labels(tmp_path / "y.npy", 2, 3)


def test_an_archive_is_no_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", np.zeros((2, 6), np.uint8))
    file = (tmp_path / "x.npz").rename(tmp_path / "x.npy")
    with pytest.raises(RequestError, match="is broken"):
        load_array(file, (None, 6), "rows of 6")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({5: torch.ones(2)}, "under the int 5"),
        ({"a": torch.ones(2, device="meta")}, "a is a meta tensor"),
        ({"a": torch.eye(3).to_sparse()}, r"a is a torch\.sparse_coo tensor"),
        ({"a": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)}, "a is a quantized tensor"),
        ({"a": 5}, "a int under the str a"),
        ({"state_dict": {None: torch.ones(1)}}, "under the NoneType None"),
    ],
)
def test_checkpoints_of_odd_keys_and_tensors(tmp_path: Path, content: dict, named: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(RequestError, match=named):
        load_checkpoint(tmp_path / "w.pt")


def test_a_checkpoint_that_unpacks_into_more_is_not_unpacked(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(10**6)}, tmp_path / "w.pt")
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(tmp_path / "w.pt") as plain, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(RequestError, match=r"unpacks into 4,0"):
        load_checkpoint(bomb)


def test_complex_and_narrow_weights(tmp_path: Path) -> None:
    build = lambda: nn.Linear(2, 1, bias=False)
    file = tmp_path / "w.pt"
    with pytest.raises(RequestError, match="weight is complex"):
        load_weights(build, {"weight": torch.ones(1, 2, dtype=torch.complex64)}, file)
    assert load_weights(build, {"weight": torch.ones(1, 2).to(torch.float8_e4m3fn)}, file).weight.sum() == 2
