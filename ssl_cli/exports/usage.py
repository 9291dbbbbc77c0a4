"""The usage example of a model card: Python that loads an export in its library and encodes an image."""

from collections.abc import Sequence

from ssl_cli.formats.preprocessing import Preprocessing

MODES = {1: "L", 3: "RGB"}
"""Pillow's mode of images with so many channels."""
EVAL = "net.eval()"
INTERPOLATIONS = {"bilinear": "BILINEAR", "bicubic": "BICUBIC"}
OPENED = (
    'image = ImageOps.exif_transpose(Image.open("image.jpg")).convert("RGBA")  # upright',
    'image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("{mode}")',
)
"""Open a picture as `data.decode` does: by its EXIF orientation, and on white where it is transparent."""


def torch_usage(load: Sequence[str], imports: Sequence[str], fit: Preprocessing) -> list[str]:
    """Return the example for a file that torch reads.

    Args:
        load: lines that make `net`.
        imports: what they import, besides torch.
        fit: the run's test transform.
    """
    size, channels = fit.size, fit.channels
    if not any(line.startswith("net = ") for line in load):  # weights without a network
        return [*sorted(imports), "", *load, "print({name: tuple(value.shape) for name, value in weights.items()})"]
    *load, last = load
    run = "h = net.eval()(x).detach()" if last == EVAL else "h = net(x).detach()"
    load = load if last == EVAL else [*load, last]
    if not _from_pictures(fit):
        picture = ["# images by the preprocessing below", f"x = torch.zeros(1, {channels}, {size}, {size})"]
        return ["import torch", *sorted(imports), "", *load, *picture, run]
    steps = [
        f"v2.Resize({fit.short}, v2.InterpolationMode.{INTERPOLATIONS[fit.interpolation]})", f"v2.CenterCrop({size})",
        "v2.PILToTensor()", "v2.ToDtype(torch.float32, scale=True)",
    ]  # fmt: skip
    if fit.mean is not None and fit.std is not None:
        steps.append(f"v2.Normalize({list(fit.mean)}, {list(fit.std)})")
    used = sorted({*imports, "from PIL import Image, ImageOps", "from torchvision.transforms import v2"})
    return [
        "import torch",
        *used,
        "",
        *load,
        *_opened(channels),
        f"x = v2.Compose([{', '.join(steps)}])(image)[None]",
        run,
    ]


def onnx_usage(file: str, fit: Preprocessing, output: str, *, in_graph: bool) -> list[str]:
    """Return the example for an ONNX file, whose graph does the test transform itself if `in_graph`."""
    size, channels, edge = fit.size, fit.channels, (fit.short - fit.size) // 2
    session = f'session = onnxruntime.InferenceSession("{file}")'
    run = f'{output} = session.run(None, {{"image": x}})[0]'
    if not _from_pictures(fit):
        shape = (
            f"(1, {size}, {size}, {channels}), np.uint8" if in_graph else f"(1, {channels}, {size}, {size}), np.float32"
        )
        note = "# images as decoded, of any size" if in_graph else "# images by the preprocessing below"
        return ["import numpy as np", "import onnxruntime", "", session, note, f"x = np.zeros({shape})", run]
    imports = ["import numpy as np", "import onnxruntime", "from PIL import Image, ImageOps", ""]
    axis = "" if channels > 1 else "[:, :, None]"
    if in_graph:
        return [*imports, session, *_opened(channels), f"x = np.asarray(image){axis}[None]  # of any size", run]
    method = f"Image.Resampling.{INTERPOLATIONS[fit.interpolation]}"
    lines = [*_opened(channels), f"image = ImageOps.fit(image, ({fit.short}, {fit.short}), {method})"]
    if edge:
        lines.append(f"image = image.crop(({edge}, {edge}, {edge + size}, {edge + size}))")
    lines.append(f"x = np.asarray(image, np.float32){axis}.transpose(2, 0, 1)[None] / 255")
    if fit.mean is not None and fit.std is not None:
        mean, std = ([[[value]] for value in values] for values in (fit.mean, fit.std))
        lines.append(f"x = (x - np.float32({mean})) / np.float32({std})")
    return [*imports, session, *lines, run]


def _opened(channels: int) -> list[str]:
    """Return the lines that open a picture of so many channels as `image`."""
    return [line.format(mode=MODES[channels]) for line in OPENED]


def _from_pictures(fit: Preprocessing) -> bool:
    """Whether the images are pictures of 8 bits, colour or gray, which Pillow reads."""
    return fit.channels in MODES and fit.range == "auto"
