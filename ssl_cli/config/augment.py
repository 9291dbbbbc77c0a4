"""The settings of the augmentation: which operations, in which order, and a table for each."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from ssl_cli.config.section import Factor, Section
from ssl_cli.names import counted, shown
from ssl_cli.registry import OPS, did_you_mean


def _rising(ends: tuple[float, float]) -> tuple[float, float]:
    if not 1e-6 <= ends[0] <= ends[1] <= 1000:
        raise ValueError("a range is two positive numbers, the smaller one first, from 0.000001 to 1,000")
    return ends


def _fractions(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[1] > 1:
        raise ValueError("a range of fractions ends at 1, the whole")
    return ends


RGB = 3
Offset = Annotated[float, Field(ge=-1e6, le=1e6)]
Strength = Annotated[float, Field(ge=0, le=10)]
Probability = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[tuple[float, float], AfterValidator(_rising)]
Fractions = Annotated[Range, AfterValidator(_fractions)]


class CropSettings(Section):
    """RandomResizedCrop: area and aspect ranges, interpolation; always the first operation.

    `scale = [1, 1]` crops nothing at random: it takes the largest centred box within `ratio`, and with `ratio = [1, 1]`
    the whole of a square image and the largest centred square of any other.
    """

    scale: Range = (0.08, 1.0)
    ratio: Range = (3 / 4, 4 / 3)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"


class FlipSettings(Section):
    """Horizontal flip."""

    p: Probability = 0.5


class RotateSettings(Section):
    """Rotation by 0, 90, 180 or 270 degrees, each as likely."""

    p: Probability = 1.0


class CutoutSettings(Section):
    """Erase a square: `size` is the range of its side as a fraction of the image's, `fill` the value written there."""

    p: Probability = 0.5
    size: Fractions = (0.25, 0.5)
    fill: float = Field(0.5, ge=0, le=1)


class JitterSettings(Section):
    """Brightness, contrast, saturation and hue in each image's own random order; `strength` scales all four."""

    p: Probability = 0.8
    brightness: Strength = 0.4
    contrast: Strength = 0.4
    saturation: Strength = 0.4
    hue: float = Field(0.1, ge=0, le=0.5)
    strength: Strength = 1.0


class GraySettings(Section):
    """Conversion to gray, three channels kept."""

    p: Probability = 0.2


class SolarizeSettings(Section):
    """Invert values of `threshold` and above, in [0, 1]."""

    p: Probability = 0.2
    threshold: Probability = 0.5


class BlurSettings(Section):
    """Gaussian blur; `kernel` is its width as a fraction of the image side, or `full` for three sigmas a side."""

    p: Probability = 0.5
    sigma: Range = (0.1, 2.0)
    kernel: Annotated[float, Field(gt=0, le=1)] | Literal["full"] = 0.1


class NoiseSettings(Section):
    """Gaussian noise on each pixel and channel; `sigma` is its standard deviation where white is 1."""

    p: Probability = 0.5
    sigma: Range = (0.01, 0.1)


class SobelSettings(Section):
    """Sobel filtering: the magnitude of the brightness's gradient in all channels."""

    p: Probability = 0.5


class NormalizeSettings(Section):
    """Subtract `mean`, divide by `std`, per channel of an image in [0, 1]."""

    mean: tuple[Offset, ...] = (0.485, 0.456, 0.406)
    std: tuple[Factor, ...] = (0.229, 0.224, 0.225)

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError("'mean' and 'std' need the same number of values, one per channel")
        return self


class AugmentSettings(Section):
    """The operations of a view, in `order`; of all views but the first, in `second`.

    Without `second`, all views are made alike. SimCLR's study of pairs of operations (arXiv 2002.05709,
    figure 5) has `order = ["crop", A, B]` and `second = ["crop"]`: one branch alone is augmented.
    """

    order: tuple[str, ...] = ("crop", "flip", "jitter", "gray", "blur")
    second: tuple[str, ...] | None = None
    crop: CropSettings = CropSettings()
    flip: FlipSettings = FlipSettings()
    rotate: RotateSettings = RotateSettings()
    cutout: CutoutSettings = CutoutSettings()
    jitter: JitterSettings = JitterSettings()
    gray: GraySettings = GraySettings()
    solarize: SolarizeSettings = SolarizeSettings()
    blur: BlurSettings = BlurSettings()
    noise: NoiseSettings = NoiseSettings()
    sobel: SobelSettings = SobelSettings()
    normalize: NormalizeSettings = NormalizeSettings()

    @field_validator("order", "second")
    @classmethod
    def _known_and_crop_first(cls, order: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if order is None:
            return None
        for name in order:
            if name not in OPS:
                raise ValueError(f"there is no operation '{shown(name)}'. {did_you_mean(name, OPS)}")
        if len(set(order)) != len(order):
            raise ValueError("an operation stands twice")
        if not order or order[0] != "crop":
            raise ValueError("the first operation must be 'crop': it gives images of any size one size")
        if "normalize" in order[:-1]:
            raise ValueError("'normalize' must be the last operation: the others need values from 0 to 1")
        return order

    @field_validator("second")
    @classmethod
    def _normalised_alike(cls, second: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        order = info.data.get("order")  # absent where it was refused itself
        if second is not None and order is not None and ("normalize" in second) != ("normalize" in order):
            raise ValueError("'normalize' must stand in both 'order' and 'second', or in neither")
        return second

    def unsuited(self, channels: int) -> dict[str, str]:
        """Return why operations in use are undefined for images of `channels` channels, by their names."""
        used, expected = {*self.order, *(self.second or ())}, len(self.normalize.mean)
        why = {}
        if "gray" in used and channels != RGB:
            why["gray"] = "there are no colours"
        if "normalize" in used and channels != expected:
            why["normalize"] = f"its mean and std are of {counted(expected, 'channel')}"
        return why

    def normalised(self) -> "AugmentSettings":
        """Return the augmentation with `normalize` as the last operation."""
        orders = {"order": self.order, "second": self.second}
        ended = {key: order and (*(k for k in order if k != "normalize"), "normalize") for key, order in orders.items()}
        return self.model_copy(update=ended)

    def suited(self, channels: int) -> "AugmentSettings":
        """Return the augmentation without the operations that are undefined for images of `channels` channels."""
        undefined = self.unsuited(channels)
        orders = {"order": self.order, "second": self.second}
        defined = {key: order and tuple(k for k in order if k not in undefined) for key, order in orders.items()}
        return self.model_copy(update=defined) if undefined else self
