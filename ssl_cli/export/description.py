"""Facts of an export as JSON-ready values: for the metadata of the file, and for the result that is printed."""

import json
from typing import Any

from ssl_cli.export.onnx import PROVIDER
from ssl_cli.export.preprocessing import Preprocessing
from ssl_cli.export.request import UINT8


def describe_input(preprocessing: Preprocessing, input_kind: str) -> str:
    """Return dtype and shape of the graph's input."""
    size, channels = preprocessing.size, preprocessing.channels
    if input_kind == UINT8:
        return f"uint8 (batch, height, width, {channels})"
    return f"float32 (batch, {channels}, {size}, {size})"


def describe_preprocessing(preprocessing: Preprocessing, *, in_graph: bool) -> dict[str, Any]:
    """Describe the test transform, which the graph does (`in_graph`) or its caller has to do."""
    channels = preprocessing.channels
    return {
        "in_graph": in_graph,
        "size": preprocessing.size,
        "resize_short_side": preprocessing.short,
        "resize_long_side": "floor(long * resize_short_side / short)",
        "crop_offset": "round((side - size) / 2), halves to even",
        "unless": "the image is `size` x `size` already",
        "then": "the centre, `size` x `size`",
        "interpolation": preprocessing.interpolation,
        "antialias": True,
        "scale": 1 / 255,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "channels": {1: "gray", 3: "RGB"}.get(channels, f"{channels}, as in the files"),
    }


def rounded(verification: dict[str, Any]) -> dict[str, Any]:
    """Round the error to two digits and the cosine to six: more would differ between machines."""
    max_error, cosine = float(f"{verification['max_error']:.1e}"), round(verification["cosine"], 6)
    return {**verification, "max_error": max_error, "cosine": cosine, "provider": PROVIDER}


def as_text(value: Any) -> str:
    """Return a metadata value: text unchanged, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
