"""Facts of an export as JSON-ready values: for the metadata of the file, and for the result that is printed."""

import json
import math
from typing import Any

from ssl_cli.formats.onnx import PROVIDER
from ssl_cli.formats.preprocessing import Preprocessing
from ssl_cli.formats.request import UINT8


def describe_input(preprocessing: Preprocessing, input_kind: str, *, dynamic_size: bool = False) -> str:
    """Return dtype and shape of the graph's input."""
    size, channels = preprocessing.size, preprocessing.channels
    if input_kind == UINT8:
        return f"uint8 (batch, height, width, {channels})"
    if dynamic_size:
        return f"float32 (batch, {channels}, height, width)"
    return f"float32 (batch, {channels}, {size}, {size})"


def describe_preprocessing(preprocessing: Preprocessing, *, in_graph: bool) -> dict[str, Any]:
    """Describe the test transform for a program, as the JSON in the metadata `sslcli.preprocessing`.

    The steps, in this order, are done by the graph (`in_graph`) or by its caller. An image of `size` x `size` is
    neither resized nor cropped (`skip_if_size`).

    - `orientation`: `exif`: the caller first turns a picture upright by its EXIF orientation.
    - `transparency`: `white`: the caller lays a picture with transparency on white; null: of channels as in the files.
    - `resize_short_side`: pixels of the shorter side after resizing; the longer one is
      long * resize_short_side / short, rounded as `resize_rounding` says, by `interpolation`, with `antialias`.
    - `crop`: `center`, `size` x `size`; its offset is (side - size) / 2, rounded as `crop_rounding` says.
    - `scale`: factor of each value from 0 to 255.
    - `depth`: bits of the images: 8, of whole numbers from 0 to 255; 16, as the run was trained, of numbers between
      these, too, which are not rounded. A graph that does the steps takes 8.
    - `mean`, `std`: of each channel, subtracted and divided by after scaling; null: values stay in [0, 1].
    - `range`: before all this, in files of other than 8 bits, the numbers that become 0 and 255, those outside of them,
      too; `per-image`: of each image its own; null: all files had 8 bits.
    - `channels`, `channel_order`: `RGB`, `gray`, or null: as in the files.
    - `layout`, `dtype`: of the graph's input.
    """
    channels = preprocessing.channels
    return {
        "schema": 1,
        "in_graph": in_graph,
        "orientation": "exif",
        "transparency": "white" if channels in {1, 3} else None,
        "size": preprocessing.size,
        "skip_if_size": True,
        "resize_short_side": preprocessing.short,
        "resize_rounding": "floor",
        "interpolation": preprocessing.interpolation,
        "antialias": True,
        "crop": "center",
        "crop_rounding": "half_even",
        "scale": 1 / 255,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "range": None if preprocessing.range == "auto" else preprocessing.range,
        "depth": 8 if in_graph else preprocessing.depth,
        "channels": channels,
        "channel_order": {1: "gray", 3: "RGB"}.get(channels),
        "layout": "NHWC" if in_graph else "NCHW",
        "dtype": "uint8" if in_graph else "float32",
    }


def rounded(verification: dict[str, Any]) -> dict[str, Any]:
    """Round the error up to a power of ten and the cosine to six digits: more differs between two exports.

    What the float32 sums of onnxruntime and torch differ by depends on the machine, and on where memory lies.
    """
    error = verification["max_error"]
    most = 10.0 ** math.ceil(math.log10(error)) if error else 0.0
    return {**verification, "max_error": most, "cosine": round(verification["cosine"], 6), "provider": PROVIDER}


def as_text(value: Any) -> str:
    """Return a metadata value: text unchanged, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
