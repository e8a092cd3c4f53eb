"""The imagecorruptions package (1.1.2, ImageNet constants) made to run on current libraries, and seeded.

The release asks for ``pkg_resources``, ``scipy.ndimage.interpolation``, ``np.float_`` and scikit-image's
``multichannel``, all gone, and draws from global random states. Its module is imported with stand-ins for the
two missing modules, which are removed again; afterwards its own references to numpy and scikit-image are
exchanged for thin ones that add what is missing and draw from the generator of the image at hand. Nothing
outside that module changes. The constants are ImageNet's: on 32-pixel images they are harsher than those by
which CIFAR-10-C was made.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from evalsuite.errors import RequestError

if TYPE_CHECKING:
    from evalsuite.plugins import UInt8Array

_current: contextvars.ContextVar[np.random.Generator] = contextvars.ContextVar("generator of the image at hand")


class _Random:
    """What the package calls on ``np.random``, drawn from the current generator."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_current.get(), {"randint": "integers"}.get(name, name))


class _Numpy:
    """numpy with ``float_``, and with ``random`` drawn from the current generator."""

    float_ = np.float64
    random = _Random()

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


class _Skimage:
    """scikit-image with ``util.random_noise`` drawn from the current generator."""

    util = SimpleNamespace(
        random_noise=lambda image, **options: _skimage("util").random_noise(image, rng=_current.get(), **options)
    )

    def __getattr__(self, name: str) -> Any:
        return _skimage(name)


def _skimage(name: str) -> Any:
    return importlib.import_module(f"skimage.{name}")


@contextlib.contextmanager
def _stand_ins(modules: dict[str, ModuleType]) -> Iterator[None]:
    absent = [name for name in modules if name not in sys.modules]
    sys.modules.update({name: modules[name] for name in absent})
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)


@functools.cache
def _package() -> Any:
    """Import the package's module once and mend its references."""
    import scipy.ndimage

    resources = ModuleType("pkg_resources")
    interpolation = ModuleType("scipy.ndimage.interpolation")

    def resource_filename(module: str, path: str) -> str:
        return str(Path(str(sys.modules[module].__file__)).parent / path)

    def gaussian(image: Any, sigma: Any, multichannel: bool = False, **options: Any) -> Any:
        axis = -1 if multichannel else None
        return _skimage("filters").gaussian(image, sigma=sigma, channel_axis=axis, **options)

    resources.resource_filename = resource_filename  # type: ignore[attr-defined]
    interpolation.map_coordinates = scipy.ndimage.map_coordinates  # type: ignore[attr-defined]
    missing = {"pkg_resources": resources, "scipy.ndimage.interpolation": interpolation}
    with _stand_ins(missing), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            module: Any = importlib.import_module("imagecorruptions.corruptions")
        except ImportError as error:  # opencv-python wants system libraries that a bare container lacks
            raise RequestError(
                f"the imagecorruptions package cannot be loaded: {error}; "
                "where libGL.so.1 is missing, install it (Debian: apt-get install libgl1 libglib2.0-0)"
            ) from error
    module.np = _Numpy()
    module.gaussian = gaussian
    module.resource_filename = resource_filename
    module.sk = _Skimage()
    return module


def corrupt_image(image: UInt8Array, name: str, severity: int, generator: np.random.Generator) -> UInt8Array:
    """Corrupt one (H, W, 3) uint8 image by the package, all its random draws from ``generator``."""
    from PIL import Image

    function = getattr(_package(), name)
    token = _current.set(generator)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(function(Image.fromarray(image), severity)).astype(np.uint8)
    finally:
        _current.reset(token)
