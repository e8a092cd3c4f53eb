"""Is every published classification network built as torchvision's and timm's own loaders build it?

``python -m benchmarks.published_networks torchvision|timm [--parameters MILLIONS] [--out FILE.csv] [NAME...]``

Random weights in the layout of the published file stand for it: the key names and layers of the release that the file
is of. A network is run by our loader and by the library's own on one random image; the row says the largest difference
of the logits (0 is right), and whether the preparation of pictures is the library's own. Larger networks than so many
millions of parameters are left out.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evalsuite.errors import RequestError
from evalsuite.tasks._networks import named_network, published_evaluation
from evalsuite.torchvision_compat import import_torchvision

Row = dict[str, Any]


def as_released(name: str, state: Any) -> Any:
    """Rename the keys of a torchvision network to those in the file that was published for it."""
    meta = state._metadata
    renamed = OrderedDict((_older_key(name, key), tensor) for key, tensor in state.items())
    if name.startswith("densenet"):
        renamed = OrderedDict((key, tensor) for key, tensor in renamed.items() if "num_batches" not in key)
        meta = {}
    elif name.startswith("vit"):
        meta = {key: {"version": 1} if key.endswith(".mlp") else version for key, version in meta.items()}
    renamed._metadata = meta  # type: ignore[attr-defined]
    return renamed


def _older_key(name: str, key: str) -> str:
    if name.startswith("densenet"):
        return re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key)
    if name.startswith("vit"):
        return key.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2.")
    return key


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Draw all weights and statistics of a network anew, so that layers that begin at zero count as well."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if not tensor.is_floating_point() or tensor.numel() == 0:
            continue
        if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.ndim > 1:
            tensor.normal_(0, tensor[0].numel() ** -0.5, generator=generator)
        else:
            tensor.normal_(0, 0.1, generator=generator)
    return network.eval()


def an_image(size: int) -> Tensor:
    """Return one random normalised image (1, 3, size, size)."""
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))


def difference(ours: nn.Module, theirs: nn.Module, image: Tensor) -> tuple[float, float]:
    """Return the largest difference of two networks' logits, and the largest of the second's."""
    with torch.no_grad():
        right = theirs(image)
        return float((ours(image) - right).abs().max()), float(right.abs().max())


def torchvision_row(name: str, folder: Path) -> Row:
    """Compare one of torchvision's networks, its file in the hub's folder ``folder``."""
    models = import_torchvision().models
    weights = next(iter(models.get_model_weights(name)))
    options: dict[str, Any] = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
    if name.startswith("vit"):
        options["image_size"] = weights.meta["min_size"][0]
    source = randomised(models.get_model(name, weights=None, **options))
    file = folder / weights.url.rpartition("/")[2]
    torch.save(as_released(name, source.state_dict()), file)
    del source
    shown = published_evaluation(name)
    try:
        ours = named_network(name, None, None, None)
        theirs = models.get_model(name, weights=weights).eval()
        apart, size = difference(ours, theirs, an_image(shown.preparation.crop))
    finally:
        file.unlink()
    preset = weights.transforms()
    pixels, picture = preset(a_picture()), torch.from_numpy(prepared(shown, a_picture_file(folder)))
    return {"difference": apart, "logits": size, "preparation": float((pixels - picture).abs().max())}


def timm_row(name: str, folder: Path) -> Row:
    """Compare one of timm's networks, its file given as a checkpoint and as timm's own ``file``."""
    import timm

    source = randomised(timm.create_model(name, pretrained=False))
    file = folder / "timm.pth"
    torch.save(source.state_dict(), file)
    config = timm.get_pretrained_cfg(name)
    del source
    try:
        ours = named_network(f"timm:{name}", file, None, None)
        theirs = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(file)})
    finally:
        file.unlink()
    size = timm.data.resolve_data_config({}, pretrained_cfg=config.to_dict())
    apart, largest = difference(ours, theirs.eval(), an_image(size["input_size"][-1]))
    row: Row = {"difference": apart, "logits": largest}
    try:
        shown = published_evaluation(f"timm:{name}")
    except RequestError as error:
        return row | {"error": str(error)[:150]}
    pixels = timm.data.create_transform(**size)(a_picture())
    picture = torch.from_numpy(prepared(shown, a_picture_file(folder)))
    return row | {"preparation": float((pixels - picture).abs().max())}


def a_picture() -> Any:
    """Return a smooth random picture, 320 x 400."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (20, 25, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((400, 320))


def a_picture_file(folder: Path) -> Path:
    """Return the same as a file."""
    file = folder / "picture.png"
    if not file.is_file():
        a_picture().save(file)
    return file


def prepared(shown: Any, file: Path) -> np.ndarray[Any, Any]:
    """Return the network's input (3, H, W) of a picture file, as a task would make it."""
    pixels = shown.preparation.of(file).astype(np.float32) / 255
    normalised = (pixels - np.array(shown.mean, np.float32)) / np.array(shown.std, np.float32)
    return normalised.transpose(2, 0, 1)


def names(library: str) -> list[str]:
    """Return the library's classification networks that were published with weights."""
    if library == "torchvision":
        models = import_torchvision().models
        return list(models.list_models(module=models))
    import timm

    published = {name.partition(".")[0] for name in timm.list_pretrained()}
    return sorted(name for name in published if timm.get_pretrained_cfg(name).num_classes > 0)


def parameters(library: str, name: str) -> int:
    """Count a network's parameters without making them."""
    with torch.device("meta"):
        if library == "torchvision":
            options: Any = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
            network = import_torchvision().models.get_model(name, weights=None, **options)
        else:
            import timm

            network = timm.create_model(name, pretrained=False)
    return sum(parameter.numel() for parameter in network.parameters())


def rows(library: str, chosen: list[str], most: float, folder: Path) -> Iterator[Row]:
    """Yield a row for each network; one that fails says why."""
    compare = torchvision_row if library == "torchvision" else timm_row
    for name in chosen or names(library):
        row: Row = {"library": library, "network": name}
        try:
            row["parameters"] = parameters(library, name)
            yield row | (compare(name, folder) if row["parameters"] <= 1e6 * most else {"error": "left out: too large"})
        except Exception as error:  # whatever a network's builder does
            yield row | {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]}


def main() -> None:
    """Compare, and write a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", choices=["torchvision", "timm"])
    parser.add_argument("network", nargs="*")
    parser.add_argument("--parameters", type=float, default=400.0, help="at most so many millions")
    parser.add_argument("--out", type=Path)
    given = parser.parse_intermixed_args()
    import_torchvision()
    torch.set_num_threads(1)
    fields = ["library", "network", "parameters", "difference", "logits", "preparation", "error"]
    with tempfile.TemporaryDirectory() as home:
        os.environ["TORCH_HOME"] = home
        folder = Path(home, "hub", "checkpoints")
        folder.mkdir(parents=True)
        with given.out.open("w", newline="") if given.out else os.fdopen(os.dup(sys.stdout.fileno()), "w") as text:
            table = csv.DictWriter(text, fields)
            table.writeheader()
            for row in rows(given.library, given.network, given.parameters, folder):
                table.writerow(row)
                text.flush()


if __name__ == "__main__":
    main()
