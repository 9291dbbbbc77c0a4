"""What each operation must do to one image: torchvision's float operation, or where it has none a plain one.

A new operation in the registry needs a function here, `(x, drawn, i, settings, size) -> x`: image x `(C,H,W)` with what
was drawn for row i.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from ssl_cli.augment.blur import Blur
from ssl_cli.augment.noise import Noise
from ssl_cli.config.augment import AugmentSettings

JITTER_STEPS = (tvf.adjust_brightness, tvf.adjust_contrast, tvf.adjust_saturation, tvf.adjust_hue)


def crop(x: Tensor, drawn: Any, i: int, settings: AugmentSettings, size: int) -> Tensor:
    corner = [int(side[i]) for side in drawn]
    how = InterpolationMode(settings.crop.interpolation)
    resized: Tensor = tvf.resized_crop(x, *corner, [size, size], how, antialias=True).clamp(0, 1)
    return resized


def flip(x: Tensor, drawn: Any, i: int, settings: AugmentSettings, size: int) -> Tensor:
    mirrored: Tensor = tvf.horizontal_flip(x)
    return mirrored


def rotate(x: Tensor, drawn: Any, i: int, settings: AugmentSettings, size: int) -> Tensor:
    turned: Tensor = tvf.rotate(x, 90.0 * int(drawn.turns[i]))
    return turned


def cutout(x: Tensor, drawn: Any, i: int, settings: AugmentSettings, size: int) -> Tensor:
    box = (int(side[i]) for side in drawn[1:])
    erased: Tensor = tvf.erase(x, *box, torch.full((len(x), 1, 1), settings.cutout.fill))
    return erased


def jittered(x: Tensor, order: Tensor, factor: Tensor) -> Tensor:
    """One image `(3,H,W)`, step by step."""
    for step in order.tolist():
        x = JITTER_STEPS[step](x, float(factor[step]))
    return x


def jitter(x: Tensor, drawn: Any, i: int, settings: AugmentSettings, size: int) -> Tensor:
    return jittered(x, drawn.order[i], drawn.factor[i])


def gray(x: Tensor, drawn: Any, i: int, settings: AugmentSettings, size: int) -> Tensor:
    grayed: Tensor = tvf.rgb_to_grayscale(x, num_output_channels=3)
    return grayed


def solarize(x: Tensor, drawn: Any, i: int, settings: AugmentSettings, size: int) -> Tensor:
    inverted: Tensor = tvf.solarize(x, settings.solarize.threshold)
    return inverted


def blur(x: Tensor, drawn: Any, i: int, settings: AugmentSettings, size: int) -> Tensor:
    width = 2 * Blur(settings.blur, size).radius + 1
    blurred: Tensor = tvf.gaussian_blur(x, [width, width], [float(drawn.sigma[i])] * 2)
    return blurred


def noise(x: Tensor, drawn: Any, i: int, settings: AugmentSettings, size: int) -> Tensor:
    """torchvision's clamps as this does, but draws its numbers elsewhere; these are tested in test_noise."""
    numbers = Noise(settings.noise, size).normal(drawn.word[i : i + 1], x.numel())
    noised: Tensor = (x + drawn.sigma[i] * numbers.view_as(x)).clamp(0, 1)
    return noised


def sobel(x: Tensor, drawn: Any, i: int, settings: AugmentSettings, size: int) -> Tensor:
    """As a convolution; against plain loops in test_sobel."""
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    bright = F.pad(tvf.rgb_to_grayscale(x)[None], (1, 1, 1, 1), mode="replicate")
    both = F.conv2d(bright, torch.stack([kernel, kernel.T])[:, None])[0]
    edges: Tensor = both.square().sum(0).sqrt().clamp(max=1)
    return edges.expand_as(x)


def normalize(x: Tensor, drawn: Any, i: int, settings: AugmentSettings, size: int) -> Tensor:
    normalized: Tensor = tvf.normalize(x, list(settings.normalize.mean), list(settings.normalize.std))
    return normalized


REFERENCES: dict[str, Callable[[Tensor, Any, int, AugmentSettings, int], Tensor]] = {
    "crop": crop,
    "flip": flip,
    "rotate": rotate,
    "cutout": cutout,
    "jitter": jitter,
    "gray": gray,
    "solarize": solarize,
    "blur": blur,
    "noise": noise,
    "sobel": sobel,
    "normalize": normalize,
}


def chain(image: Tensor, params: dict[str, Any], i: int, settings: AugmentSettings, size: int) -> Tensor:
    """One uint8 image `(3,H,W)` through the operations of `params`, in their order, where it drew them."""
    x = image.float() / 255
    for name, drawn in params.items():
        if getattr(drawn, "on", torch.ones(i + 1, dtype=torch.bool))[i]:
            x = REFERENCES[name](x, drawn, i, settings, size)
    return x
