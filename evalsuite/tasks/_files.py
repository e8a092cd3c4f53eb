"""Reading a task's files: every failure is one line that names the file and what belongs there."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evalsuite.errors import NotHere, RequestError
from evalsuite.files import mapped_array
from evalsuite.hashing import digest

_COUNTER = "num_batches_tracked"
_WEIGHTS = "a dictionary of weights"


def data_folder(root: str | None, what: str) -> Path:
    """Return the data folder. ``what`` names the files wanted. Raises RequestError if there is none."""
    if root is None:
        raise NotHere(f"no data folder given: use --data-root DIR or set EVALSUITE_DATA; expected {what} in it")
    folder = Path(root)
    if not folder.is_dir():
        raise RequestError(f"data folder {folder} does not exist; expected a folder with {what}")
    return folder


def existing(file: Path, what: str) -> Path:
    """Return ``file``. Raises RequestError if it is absent, saying that it is ``what``."""
    if not file.is_file():
        raise RequestError(f"no file {file}: expected {what}")
    return file


def broken(file: Path, what: str, reason: object) -> RequestError:
    """Build the error for a file that is there but is not ``what`` was expected."""
    lines = str(reason).splitlines()
    return RequestError(f"{file} is broken ({lines[0] if lines else type(reason).__name__}): expected {what}")


def load_array(file: Path, shape: tuple[int | None, ...], what: str) -> NDArray[np.uint8]:
    """Map an uint8 ``.npy`` file into memory, read-only; None in ``shape`` is any length.

    Raises
    ------
    RequestError
        If the file is missing, truncated, or of another shape or type.
    """
    array = _mapped(file, what)
    fits = len(array.shape) == len(shape) and all(
        wanted in (None, length) for wanted, length in zip(shape, array.shape, strict=True)
    )
    if array.dtype != np.uint8 or not fits or len(array) == 0:
        raise broken(file, what, f"{array.dtype} of shape {array.shape}")
    return array


def _mapped(file: Path, what: str) -> NDArray[Any]:
    existing(file, what)
    try:
        return mapped_array(file)
    except (OSError, ValueError) as error:
        raise broken(file, what, error) from error


def check_labels(labels: NDArray[Any], images: int, classes: int, file: Path) -> NDArray[np.int64]:
    """Return (N,) labels as int64. Raises RequestError unless there is one per image, 0..classes-1."""
    what = f"{images} labels, one per image, from 0 to {classes - 1}"
    if labels.shape != (images,):
        raise broken(file, what, f"shape {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise broken(file, what, labels.dtype)
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= classes:
        raise broken(file, what, f"{labels.dtype} from {labels.min()} to {labels.max()}")
    return labels.astype(np.int64)


def load_labels(file: Path, images: int, classes: int) -> NDArray[np.int64]:
    """Read (N,) labels of any integer type. Raises RequestError unless there is one per image, 0..classes-1."""
    what = f"{images} labels, one per image, from 0 to {classes - 1}"
    return check_labels(_mapped(file, what), images, classes, file)


def version(files: Iterable[Path]) -> str:
    """Hash of the paths, sizes and times of files; raises OSError for one that is not there."""
    states = [(str(file), file.stat()) for file in files]
    return digest([[name, state.st_size, state.st_mtime_ns] for name, state in states])


_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PREFIX = re.compile(r"^((module|_orig_mod)\.)+")


def load_checkpoint(file: Path) -> dict[str, Tensor]:
    """Read a network's weights as training scripts save them, or as safetensors.

    They may lie under ``state_dict``, ``model_state_dict``, ``model`` or ``net``, and carry the prefixes ``module.``
    (of data-parallel training) and ``_orig_mod.`` (of compiled networks).

    Raises
    ------
    RequestError
        If the file is missing, truncated or holds anything else.
    """
    content = _read_tensors(file)
    for name in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
            break
    return {_PREFIX.sub("", name): tensor for name, tensor in _only_tensors(content, file).items()}


def load_tensors(file: Path) -> dict[str, Tensor]:
    """Read a dictionary of tensors saved by ``torch.save`` (no other objects) or as safetensors.

    Raises
    ------
    RequestError
        If the file is missing, truncated or holds anything else.
    """
    return _only_tensors(_read_tensors(file), file)


def _read_tensors(file: Path) -> Any:
    existing(file, _WEIGHTS)
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load

            return load(file.read_bytes())
        _refuse_compressed(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not str(error).startswith("Weights only load failed"):
            raise broken(file, _WEIGHTS, error) from error
        raise broken(file, _WEIGHTS, "it holds other objects, as a whole module does: save its state_dict()") from error
    except Exception as error:  # readers fail in many ways on foreign bytes; each means the same
        raise broken(file, _WEIGHTS, error) from error


def _refuse_compressed(file: Path) -> None:
    """Raise ValueError for an archive that unpacks into more bytes than it has; ``torch.save`` compresses nothing."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > file.stat().st_size:
            raise ValueError(f"an archive of {file.stat().st_size:,} bytes that unpacks into {size:,}")


def _only_tensors(content: Any, file: Path) -> dict[str, Tensor]:
    if not isinstance(content, dict):
        raise broken(file, _WEIGHTS, f"a {type(content).__name__}")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise broken(file, _WEIGHTS, f"a {type(tensor).__name__} under the {type(name).__name__} {str(name)[:80]}")
        if tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
            kind = "meta" if tensor.is_meta else "quantized" if tensor.is_quantized else tensor.layout
            raise broken(file, f"{_WEIGHTS}, dense ones that hold their values", f"{name} is a {kind} tensor")
    return content


def distributed_weights(url: str, root: str | None, *, download: bool) -> Path:
    """Return the file of published weights: from the data folder's ``weights``, or torch's hub folder.

    Raises
    ------
    RequestError
        If it is in neither and may or can not be downloaded; the line says which file belongs where.
    """
    name = url.rpartition("/")[2]
    hub = Path(torch.hub.get_dir()) / "checkpoints" / name
    places = [*([Path(root) / "weights" / name] if root else []), hub]
    for place in places:
        if place.is_file():
            return place
    wanted = f"expected {url} at {' or '.join(map(str, places))}"
    if not download:
        raise RequestError(f"no file {name}: {wanted}")
    found = re.search(r"-([0-9a-f]{8,})\.", name)
    try:
        hub.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(hub), found.group(1) if found else None, progress=False)
    except (OSError, RuntimeError) as error:  # no network, no space, another content
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RequestError(f"no file {name}, and it cannot be downloaded ({reason}): {wanted}") from error
    return hub


def load_weights(build: Callable[[], nn.Module], tensors: Mapping[str, Tensor], file: Path) -> nn.Module:
    """Build a network, copy weights into it and return it in eval mode; the global random state stays as it was.

    BatchNorm's ``num_batches_tracked``, which plays no part in a prediction, may be missing.

    Raises
    ------
    RequestError
        If a name is missing or too many, a shape differs, or a value is not finite.
    """
    with torch.random.fork_rng(devices=[]):  # layers initialise themselves
        network = build()
    kind = type(network).__name__
    for reason, expected in _misfits(network.state_dict(), tensors):
        raise RequestError(f"{file} does not fit {kind} ({reason}): expected {expected}")
    for name, tensor in tensors.items():
        if not _finite(tensor):
            raise broken(file, f"weights of {kind}, finite numbers", f"{name} is not finite")
    state = OrderedDict(tensors)
    # The names are today's, so the layout is: without a version some modules take it for an older one.
    state._metadata = network.state_dict()._metadata  # type: ignore[attr-defined]
    network.load_state_dict(state, strict=False)
    return network.eval()


def _finite(tensor: Tensor) -> bool:
    narrow = tensor.is_floating_point() and tensor.element_size() == 1  # float8, of which torch knows no isfinite
    return bool(torch.isfinite(tensor.float() if narrow else tensor).all())


def _misfits(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with names, shapes and kinds, and what was expected."""
    missing = [name for name in wanted if name not in given and not name.endswith(_COUNTER)]
    if missing:
        yield f"{missing[0]} is missing", f"its {len(wanted)} tensors"
    extra = [name for name in given if name not in wanted]
    if extra:
        yield f"{extra[0]} is not among them", f"its {len(wanted)} tensors"
    for name, tensor in given.items():
        if tensor.shape != wanted[name].shape:
            yield f"{name} has shape {tuple(tensor.shape)}", f"{tuple(wanted[name].shape)}"
        if tensor.is_complex() and not wanted[name].is_complex():
            yield f"{name} is complex", "real numbers"
