"""Where a run lies, where its data come from, and what it may use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evalsuite.files import read_only


@dataclass(frozen=True)
class Workspace:
    """Where a run lies, where its data come from, and what it may use."""

    folder: Path
    root: str | None = None
    device: str = "cpu"
    threads: int = 1
    cache: Path | None = None
    """Folder that runs share for images; without one a run keeps its own."""
    cache_read_only: bool = False
    """Whether that folder is read only: images that it lacks are then kept in the run's folder."""
    devices: tuple[str, ...] = ()
    """All that the run's processes may compute on, where there are several of these; ``device`` is this process's."""
    memory: float | None = None
    """Bytes that a process is to keep to by what it chooses (:mod:`evalsuite.running.memory_budget`)."""

    def images_files(self, key: str) -> tuple[Path, ...]:
        """Files that may hold corrupted test images, in the order in which they are tried; the last is written."""
        shared, own = ((place or Path()) / "images" / f"{key}.npy" for place in (self.cache, self.folder / ".work"))
        if self.cache is None:
            return (own,)
        return (shared, own) if self.cache_read_only else (shared,)

    def outputs_file(self, key: str) -> Path:
        """File of what a full-precision network makes of its pool."""
        return self.folder / ".work" / "outputs" / f"{key}.npz"

    def model_file(self, key: str) -> Path:
        """File of a quantized model."""
        return self.folder / ".work" / "models" / f"{key}.safetensors"

    def graph_file(self, key: str) -> Path:
        """File of a quantized model as an ONNX graph."""
        return self.folder / ".work" / "models" / f"{key}.onnx"


def cannot_write_images(cache: Path | None) -> bool:
    """Whether the folder that runs share for images is there and read only, on the machine at hand."""
    return cache is not None and read_only(cache / "images" if (cache / "images").is_dir() else cache)
