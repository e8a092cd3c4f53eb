"""What the Python interface is given: numbers and images in the forms in which people have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from evalsuite.errors import RequestError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


_LARGEST = 2**63  # as integers in studies, records and streams are


def whole_number(name: str, value: Any) -> int:
    """Return an integer, one of numpy's, or a float without a fraction (3.0 is 3) as an int.

    Raises RequestError, with the argument's name, for anything else: a bool, 3.5, a text, what takes more than 64 bits.
    """
    whole = isinstance(value, int | np.integer) or (
        isinstance(value, float | np.floating) and float(value).is_integer()
    )
    if isinstance(value, bool) or not whole:
        raise RequestError(f"{name} = {value!r}: expected an integer")
    number = int(value)
    if not -_LARGEST <= number < _LARGEST:  # one of thousands of digits cannot even be printed
        raise RequestError(f"{name} = a whole number of {number.bit_length()} bits: expected one below 2^63 in size")
    return number


def image_tensor(images: Any, what: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return normalised images as a network takes them: a tensor of its floating-point type, outside inference mode.

    Parameters
    ----------
    images : tensor or array (N, C, H, W), or a list of N tensors or arrays (C, H, W); floating-point. A tensor stays on
        its device.
    what : these images are, for errors.
    dtype, device : of the network; arrays go there.

    Raises
    ------
    RequestError
        If these are no images of one shape, or no floating-point ones.
    """
    import torch
    from torch import Tensor

    try:
        if isinstance(images, list | tuple) and len(images):
            images = torch.stack([torch.as_tensor(image) for image in images])
        elif isinstance(images, np.ndarray):
            images = torch.tensor(images, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RequestError(f"{what}: {' '.join(str(error).split())}; expected images (N, C, H, W)") from error
    if not isinstance(images, Tensor) or images.ndim != 4 or len(images) == 0:
        shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise RequestError(f"{what}: got {shape}; expected at least one image, (N, C, H, W)")
    if not images.is_floating_point():
        raise RequestError(f"{what}: got {images.dtype}; expected normalised floating-point images")
    images = images.to(dtype)
    usable: Tensor = images.clone() if images.is_inference() else images
    return usable
