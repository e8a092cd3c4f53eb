"""The numbers behind the 19 corruptions, severities 1 to 5, in two sets.

``imagenet`` holds those of ImageNet-C for images of 224 pixels, ``cifar`` those of CIFAR-10-C for 32 pixels, which
are milder because less of a small image survives (Hendrycks & Dietterich 2019, arXiv 1903.12261, and the programs
published with it). Lengths are in pixels, tones in 0..1, unless a field says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from evalsuite.errors import unknown_name

Levels = tuple[float, float, float, float, float]
Pairs = tuple[tuple[float, float], ...]
Rows = tuple[tuple[float, ...], ...]

SMALL = 64
"""Images whose shorter side is below this take the ``cifar`` constants unless a set is named."""


@dataclass(frozen=True)
class Constants:
    """One set; each field has a value for each severity, but for the last five, which tell the generators apart.

    Attributes
    ----------
    gaussian_noise, speckle_noise : standard deviation of the added, of the multiplied noise.
    shot_noise : photons that make a white pixel.
    impulse_noise : share of values that become black or white.
    gaussian_blur : standard deviation.
    defocus_blur : radius of the disk, standard deviation of its edge.
    glass_blur : standard deviation, farthest move, passes.
    motion_blur : length of the streak's half, standard deviation along it.
    zoom_blur : largest zoom factor, step between factors.
    snow : mean and deviation of the flakes' field, zoom, threshold, streak half-length and deviation, share of the
        image that keeps its colours.
    frost : weights of the image and of the ice.
    fog : amount, factor by which the roughness falls from one octave to the next.
    brightness : added to the HSV value.
    contrast : factor on the distance from the mean.
    elastic_transform : largest displacement, standard deviation of its smoothing and largest shift of the three
        points of the affine map, all as fractions of the image's size.
    pixelate : side of the small image as a fraction.
    jpeg_compression : quality.
    spatter : mean and deviation of the liquid's field, its smoothing, threshold, strength or smoothing of the drops,
        1 for mud and 0 for water.
    saturate : factor and offset on the HSV saturation.
    frost_scale : factor by which the ice pictures are resized.
    frost_cubic : whether by cubic instead of linear interpolation.
    snow_cut : whether flakes are cut to whole grey levels before and after they are smeared, instead of rounded after.
    pixelate_box : whether the small image is enlarged by averaging instead of by repetition.
    zoom_centred : whether what a zoomed image has too much is cut off on all sides, instead of right and below.
    """

    gaussian_noise: Levels
    shot_noise: Levels
    impulse_noise: Levels
    speckle_noise: Levels
    gaussian_blur: Levels
    defocus_blur: Pairs
    glass_blur: tuple[tuple[float, int, int], ...]
    motion_blur: tuple[tuple[int, float], ...]
    zoom_blur: Pairs
    snow: Rows
    frost: Pairs
    fog: Pairs
    brightness: Levels
    contrast: Levels
    elastic_transform: tuple[tuple[float, float, float], ...]
    pixelate: Levels
    jpeg_compression: tuple[int, int, int, int, int]
    spatter: Rows
    saturate: Pairs
    frost_scale: float
    frost_cubic: bool
    snow_cut: bool
    pixelate_box: bool
    zoom_centred: bool


_IMAGENET = Constants(
    gaussian_noise=(0.08, 0.12, 0.18, 0.26, 0.38),
    shot_noise=(60, 25, 12, 5, 3),
    impulse_noise=(0.03, 0.06, 0.09, 0.17, 0.27),
    speckle_noise=(0.15, 0.2, 0.35, 0.45, 0.6),
    gaussian_blur=(1, 2, 3, 4, 6),
    defocus_blur=((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    glass_blur=((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    motion_blur=((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    zoom_blur=((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    snow=(
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    frost=((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    fog=((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    brightness=(0.1, 0.2, 0.3, 0.4, 0.5),
    contrast=(0.4, 0.3, 0.2, 0.1, 0.05),
    # The original draws from +-0.005 of the height and multiplies by 250 times 0.05 to 0.12.
    elastic_transform=(
        (0.0625, 0.01, 0),
        (0.08125, 0.01, 0),
        (0.10625, 0.01, 0),
        (0.125, 0.01, 0),
        (0.15, 0.01, 0),
    ),
    pixelate=(0.6, 0.5, 0.4, 0.3, 0.25),
    jpeg_compression=(25, 18, 15, 10, 7),
    spatter=(
        (0.65, 0.3, 4, 0.69, 0.6, 0),
        (0.65, 0.3, 3, 0.68, 0.6, 0),
        (0.65, 0.3, 2, 0.68, 0.5, 0),
        (0.65, 0.3, 1, 0.65, 1.5, 1),
        (0.67, 0.4, 1, 0.65, 1.5, 1),
    ),
    saturate=((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    frost_scale=1.1,
    frost_cubic=True,
    snow_cut=False,
    pixelate_box=False,
    zoom_centred=False,
)

_CIFAR = Constants(
    gaussian_noise=(0.04, 0.06, 0.08, 0.09, 0.10),
    shot_noise=(500, 250, 100, 75, 50),
    impulse_noise=(0.01, 0.02, 0.03, 0.05, 0.07),
    speckle_noise=(0.06, 0.1, 0.12, 0.16, 0.2),
    gaussian_blur=(0.4, 0.6, 0.7, 0.8, 1),
    defocus_blur=((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    glass_blur=((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    motion_blur=((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    zoom_blur=((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    snow=(
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    frost=((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    fog=((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    brightness=(0.05, 0.1, 0.15, 0.2, 0.3),
    contrast=(0.75, 0.5, 0.4, 0.3, 0.15),
    elastic_transform=((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    pixelate=(0.95, 0.9, 0.85, 0.75, 0.65),
    jpeg_compression=(80, 65, 58, 50, 40),
    spatter=(
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ),
    saturate=((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    frost_scale=0.2,
    frost_cubic=False,
    snow_cut=True,
    pixelate_box=True,
    zoom_centred=True,
)

SETS = {"cifar": _CIFAR, "imagenet": _IMAGENET}


def choose(name: str | None, height: int, width: int) -> str:
    """Return the constant set's name: the given one, else the one for images of this size.

    Raises
    ------
    RequestError
        If there is no such set.
    """
    if name is None:
        return "cifar" if min(height, width) < SMALL else "imagenet"
    if name not in SETS:
        raise unknown_name("constant set", name, SETS)
    return name
