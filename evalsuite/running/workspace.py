"""Where a run lies, where its data come from, and what it may use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """Where a run lies, where its data come from, and what it may use."""

    folder: Path
    root: str | None = None
    device: str = "cpu"
    threads: int = 1
    cache: Path | None = None
    """Folder that runs share for images; without one a run keeps its own."""
    devices: tuple[str, ...] = ()
    """All that the run's processes may compute on, where there are several of these; ``device`` is this process's."""

    def images_file(self, key: str) -> Path:
        """File of corrupted test images."""
        return (self.cache or self.folder / ".work") / "images" / f"{key}.npy"

    def outputs_file(self, key: str) -> Path:
        """File of what a full-precision network makes of its pool."""
        return self.folder / ".work" / "outputs" / f"{key}.npz"

    def model_file(self, key: str) -> Path:
        """File of a quantized model."""
        return self.folder / ".work" / "models" / f"{key}.safetensors"
