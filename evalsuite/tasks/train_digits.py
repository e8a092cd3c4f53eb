"""Train the two networks that ship with the package: ``python -m evalsuite.tasks.train_digits``.

One thread and fixed seeds: on one machine the same weights come out, bit for bit. Training images are only
rotated, scaled, sheared and shifted a little; no corruption is applied to them. Their tones vary as the task's do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from evalsuite.files import replacing
from evalsuite.hashing import digest_arrays, digest_tensors
from evalsuite.plugins import UInt8Array
from evalsuite.randomness import torch_generator
from evalsuite.tasks import digits


@dataclass(frozen=True)
class Recipe:
    """AdamW on a one-cycle schedule; matrices and kernels decay, biases and norms do not."""

    epochs: int
    learning_rate: float
    weight_decay: float
    batch: int = 32
    seed: int = 0


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Recipe]] = {
    "digits_resnet": (digits.resnet, Recipe(epochs=60, learning_rate=5e-3, weight_decay=0.01)),
    "digits_vit": (digits.vit, Recipe(epochs=150, learning_rate=1e-3, weight_decay=0.05)),
}


def augment(
    images: Tensor,
    generator: torch.Generator,
    *,
    degrees: float = 10.0,
    scale: float = 0.1,
    shear: float = 0.1,
    shift: float = 0.1,
) -> Tensor:
    """Map each of (N, C, H, W) images by an affine map of its own; what enters repeats the border.

    The settings are the largest deviations, drawn uniformly on both sides; ``shift`` is a part of the image's size.
    """

    def draw(limit: float) -> Tensor:
        return limit * (2 * torch.rand(len(images), generator=generator) - 1)

    angle, size, skew = draw(math.radians(degrees)), 1 + draw(scale), draw(shear)
    x, y = draw(2 * shift), draw(2 * shift)  # affine_grid's coordinates are 2 wide
    rows = [
        torch.stack([size * angle.cos(), skew - size * angle.sin(), x], dim=1),
        torch.stack([size * angle.sin(), size * angle.cos(), y], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def normalised(images: UInt8Array) -> Tensor:
    """Turn (N, H, W, 3) images into the networks' (N, 3, H, W) input."""
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (digits.MEAN, digits.STD))
    return (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std


def train(build: Callable[[], nn.Module], images: Tensor, labels: Tensor, recipe: Recipe) -> nn.Module:
    """Build a network and train it on (N, 3, H, W) normalised images and (N,) labels; it returns in eval mode."""
    with torch.random.fork_rng(devices=[]):  # torch's layers initialise themselves from the global state
        torch.manual_seed(recipe.seed)
        network = build().train()
    generator = torch_generator(recipe.seed, "digits", "training")
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
    )
    batches = len(images) // recipe.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=recipe.epochs * batches, pct_start=0.15
    )
    for _ in range(recipe.epochs):
        order = torch.randperm(len(images), generator=generator)
        for chosen in order[: batches * recipe.batch].view(batches, recipe.batch):
            loss = F.cross_entropy(network(augment(images[chosen], generator)), labels[chosen])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the part of (N, 3, H, W) images whose class is found."""
    predictions = torch.cat([network(batch).argmax(dim=1) for batch in torch.split(images, 64)])
    return float((predictions == labels).double().mean())


def main(
    out: Annotated[Path, typer.Option(help="Folder for the weights.")] = digits.WEIGHTS,
) -> None:
    """Train both networks and write their weights."""
    torch.set_num_threads(1)
    splits = digits.splits()
    parts = {name: (normalised(images), torch.from_numpy(labels)) for name, (images, labels) in splits.items()}
    seen = digest_arrays(*splits["train"])
    for name, (build, recipe) in NETWORKS.items():
        network = train(build, *parts["train"], recipe)
        state = network.state_dict()
        with replacing(out / f"{name}.safetensors") as temporary:
            save_file(state, temporary, {"recipe": json.dumps(asdict(recipe)), "training_images": seen})
        found = accuracy(network, *parts["test"])
        typer.echo(f"{name}: test accuracy {100 * found:.2f} %, weights {digest_tensors(state)}")


if __name__ == "__main__":
    typer.run(main)
