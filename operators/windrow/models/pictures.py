"""Images for a model: decoded, turned upright, resized and scaled as its image processor says."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from windrow.errors import JobError, ModelError
from windrow.models.resolve import ResolvedModel

__all__ = ["MOST_PIXELS", "Pictures", "Pixels"]

MOST_PIXELS = 64_000_000
"""Of one image, before it is decoded: a file of some kilobytes can unfold to gigabytes."""
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""Those whose decoders run no other program."""


@dataclass(slots=True)
class Pixels:
    """Images of one size, as the model takes them; each counts as one token.

    Attributes:
        values: Float32, shape ``(images, channels, height, width)``; zeros where an image failed.
        failed: Reason code and detail of the images that cannot be decoded.
    """

    values: npt.NDArray[np.float32]
    failed: dict[int, tuple[str, str]] = field(default_factory=dict)

    @property
    def rows(self) -> npt.NDArray[np.int32]:
        """Index of each image, shape ``(images,)``."""
        return np.arange(len(self.values), dtype=np.int32)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """One for each image, shape ``(images,)``."""
        return np.ones(len(self.values), dtype=np.int64)

    @property
    def truncated(self) -> npt.NDArray[np.bool_]:
        """False for each image, shape ``(images,)``."""
        return np.zeros(len(self.values), dtype=np.bool_)

    def tokens_per_row(self) -> npt.NDArray[np.int32]:
        """One for each image, shape ``(images,)``."""
        return np.ones(len(self.values), dtype=np.int32)


class Pictures:
    """The image processor of a model.

    Raises:
        JobError: Pillow is not installed.
        ModelError: The processor is missing or broken.
    """

    def __init__(self, model: ResolvedModel) -> None:
        try:
            import PIL  # noqa: F401
        except ImportError:
            raise JobError("Pillow is not installed; it decodes images.", "pip install 'windrow[images]'.") from None
        from transformers import AutoImageProcessor

        self.name = model.name
        try:
            self.processor: Any = AutoImageProcessor.from_pretrained(
                str(model.folder), backend="pil", trust_remote_code=False
            )
        except Exception as error:
            reason = str(error).strip().split("\n")[0].rstrip(".")
            raise ModelError(
                f"The image processor of model {model.name!r} cannot be loaded: {reason}.",
                "save it into the same folder (preprocessor_config.json).",
            ) from None

    def pixels(self, images: Sequence[bytes]) -> Pixels:
        """Decode images and make them what the model takes.

        Raises:
            ModelError: The processor gives images of several sizes.
        """
        failed: dict[int, tuple[str, str]] = {}
        made: dict[int, npt.NDArray[np.float32]] = {}
        for row, image in enumerate(images):
            try:
                made[row] = self._one(image)
            except Exception as error:  # decoders raise what they like on broken bytes
                words = str(error).strip().split("\n")[0] or type(error).__name__
                failed[row] = ("bad_image", f"it cannot be decoded: {words[:200]}")
        shapes = {array.shape for array in made.values()}
        if len(shapes) > 1:
            raise ModelError(
                f"The image processor of model {self.name!r} gives images of several sizes.",
                "set a fixed size in its preprocessor_config.json.",
            )
        values = np.zeros((len(images), *(shapes.pop() if shapes else (3, 1, 1))), dtype=np.float32)
        for row, array in made.items():
            values[row] = array
        return Pixels(values, failed)

    def _one(self, image: bytes) -> npt.NDArray[np.float32]:
        """Return one image, float32, shape ``(channels, height, width)``."""
        from PIL import Image, ImageOps

        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(image), formats=_FORMATS) as opened:
            pixels = opened.width * opened.height
            if pixels > MOST_PIXELS:
                raise ValueError(f"it has {pixels:,} pixels; at most {MOST_PIXELS:,} are decoded")
            upright = ImageOps.exif_transpose(opened).convert("RGB")
        return np.asarray(self.processor(images=upright, return_tensors="np")["pixel_values"][0], dtype=np.float32)
