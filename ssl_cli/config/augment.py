"""Settings of the augmentation: which operations, in which order, and each one's own table."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from ssl_cli.config.branch import Branch
from ssl_cli.registry import OPS, did_you_mean


def _rising(ends: tuple[float, float]) -> tuple[float, float]:
    if not 0 < ends[0] <= ends[1]:
        raise ValueError("a range is two positive numbers, the smaller one first")
    return ends


Positive = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[tuple[float, float], AfterValidator(_rising)]


class CropSettings(Branch):
    """RandomResizedCrop: area and aspect ranges, interpolation; always the first operation."""

    scale: Range = (0.08, 1.0)
    ratio: Range = (3 / 4, 4 / 3)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"


class FlipSettings(Branch):
    """Horizontal flip."""

    p: Probability = 0.5


class JitterSettings(Branch):
    """Brightness, contrast, saturation and hue in each image's own random order; `strength` scales all four."""

    p: Probability = 0.8
    brightness: float = Field(0.4, ge=0)
    contrast: float = Field(0.4, ge=0)
    saturation: float = Field(0.4, ge=0)
    hue: float = Field(0.1, ge=0, le=0.5)
    strength: float = Field(1.0, ge=0)


class GraySettings(Branch):
    """Conversion to gray, three channels kept."""

    p: Probability = 0.2


class BlurSettings(Branch):
    """Gaussian blur; `kernel` is the kernel's width as a share of the image side, or `full` for three sigmas a side."""

    p: Probability = 0.5
    sigma: Range = (0.1, 2.0)
    kernel: Annotated[float, Field(gt=0, le=1)] | Literal["full"] = 0.1


class NormalizeSettings(Branch):
    """Subtract `mean`, divide by `std`, per channel of an image in [0, 1]."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225)


class AugmentSettings(Branch):
    """What happens to an image before the network sees it, in `order`."""

    order: tuple[str, ...] = ("crop", "flip", "jitter", "gray", "blur")
    crop: CropSettings = CropSettings()
    flip: FlipSettings = FlipSettings()
    jitter: JitterSettings = JitterSettings()
    gray: GraySettings = GraySettings()
    blur: BlurSettings = BlurSettings()
    normalize: NormalizeSettings = NormalizeSettings()

    @field_validator("order")
    @classmethod
    def _known_and_crop_first(cls, order: tuple[str, ...]) -> tuple[str, ...]:
        for name in order:
            if name not in OPS:
                raise ValueError(f"there is no operation '{name}'. {did_you_mean(name, OPS)}")
        if len(set(order)) != len(order):
            raise ValueError("an operation stands twice")
        if not order or order[0] != "crop":
            raise ValueError("the first operation must be 'crop': it gives images of any size one size")
        if "normalize" in order[:-1]:
            raise ValueError("'normalize' must be the last operation: the others need values from 0 to 1")
        return order
