"""Digital corruptions: contrast, elastic transform, pixelate, JPEG compression, and the held-out saturate."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from evalsuite.corruptions.blur import gaussian_kernel
from evalsuite.corruptions.constants import Constants
from evalsuite.corruptions.draws import Draws, FloatArray
from evalsuite.plugins import UInt8Array

_TONES = np.arange(256) / 255.0


def contrast(images: UInt8Array, c: Constants, severity: int, draws: Draws) -> UInt8Array:
    """Move every value towards the mean of its image and channel."""
    out = np.empty_like(images)
    for image, made in zip(images, out, strict=True):
        means = np.array(cv2.sumElems(image)[:3]) / (255.0 * image[..., 0].size)
        tones = (_TONES[:, None] - means) * c.contrast[severity - 1] + means
        cv2.LUT(image, (np.clip(tones, 0, 1) * 255).astype(np.uint8)[None], dst=made)
    return out


def saturate(images: UInt8Array, c: Constants, severity: int, draws: Draws) -> UInt8Array:
    """Change the HSV saturation, by the very conversions of the original: many results are whole but for rounding."""
    from skimage import color

    factor, offset = c.saturate[severity - 1]
    hsv = color.rgb2hsv(images / 255.0)
    hsv[..., 1] = np.clip(hsv[..., 1] * factor + offset, 0, 1)
    out: UInt8Array = (np.clip(color.hsv2rgb(hsv), 0, 1) * 255).astype(np.uint8)
    return out


def jpeg_compression(images: UInt8Array, c: Constants, severity: int, draws: Draws) -> UInt8Array:
    """Compress and read back."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, c.jpeg_compression[severity - 1]]
    out = np.empty_like(images)
    for image, made in zip(images, out, strict=True):
        _, code = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
        cv2.cvtColor(cv2.imdecode(code, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB, dst=made)
    return out


def pixelate(images: UInt8Array, c: Constants, severity: int, draws: Draws) -> UInt8Array:
    """Shrink by averaging and enlarge again."""
    height, width = images.shape[1:3]
    share = c.pixelate[severity - 1]
    small = _resize(images, int(height * share), int(width * share), Image.Resampling.BOX)
    enlarging = Image.Resampling.BOX if c.pixelate_box else Image.Resampling.NEAREST
    return _resize(small, height, width, enlarging)


def _resize(images: UInt8Array, height: int, width: int, method: Image.Resampling) -> UInt8Array:
    """Resize all images at once by PIL, which treats rows first and then columns.

    Below one another they make one tall picture whose rows can be resized, side by side a wide one for the columns.
    """
    count, rows = images.shape[:2]
    tall = Image.fromarray(images.reshape(count * rows, -1, 3)).resize((width, count * rows), method)
    beside = np.asarray(tall).reshape(count, rows, width, 3).swapaxes(0, 1).reshape(rows, count * width, 3)
    wide = Image.fromarray(beside).resize((count * width, height), method)
    return np.ascontiguousarray(np.asarray(wide).reshape(height, count, width, 3).swapaxes(0, 1))


def elastic_transform(images: UInt8Array, c: Constants, severity: int, draws: Draws) -> UInt8Array:
    """Move pixels by a smooth random field, after a random affine map of the whole where the constants ask for it."""
    height, width = images.shape[1:3]
    most, smoothing, shift = c.elastic_transform[severity - 1]
    corners = (2 * draws.uniform(3, 2) - 1) * np.float32(shift * min(height, width)) if shift else [None] * len(images)
    fields = (2 * draws.uniform(2, height, width) - 1) * np.float32(most * height)
    down, right = np.mgrid[:height, :width].astype(np.float32)
    out = np.empty_like(images)
    for image, (dx, dy), moves, made in zip(images, fields, corners, out, strict=True):
        # OpenCV interpolates four channels more than twice as fast as three.
        tones = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA).astype(np.float32)
        if moves is not None:
            tones = _affine(tones, moves)
        if most:
            x, y = _smooth_field(dx, smoothing), _smooth_field(dy, smoothing)
            tones = cv2.remap(tones, right + x, down + y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        made[:] = np.clip(cv2.cvtColor(tones, cv2.COLOR_RGBA2RGB), 0, 255)
    return out


def _affine(image: FloatArray, moves: FloatArray) -> FloatArray:
    """Map one image so that three points about its centre move by ``moves`` (3, 2)."""
    height, width = image.shape[:2]
    third = min(height, width) // 3
    centre = np.array([width // 2, height // 2], np.float32)
    points = (centre + np.array([[third, third], [third, -third], [-third, -third]])).astype(np.float32)
    matrix = cv2.getAffineTransform(points, points + moves)
    out: FloatArray = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return out


def _smooth_field(field: FloatArray, smoothing: float) -> FloatArray:
    down, across = (gaussian_kernel(smoothing * size, 3.0) for size in field.shape)
    out: FloatArray = cv2.sepFilter2D(field, -1, across, down, borderType=cv2.BORDER_REFLECT)
    return out
