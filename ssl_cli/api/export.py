"""Export in Python: `ssl_cli.export(run, "encoder.onnx")`."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_cli.errors import UsageError
from ssl_cli.events import Evaluated, Warned
from ssl_cli.exports.write import write
from ssl_cli.formats.request import FLOAT, OPSET, Options


def export(
    run: str | os.PathLike[str],
    path: str | os.PathLike[str],
    to: str | None = None,
    *,
    classifier: bool = False,
    input_kind: str = FLOAT,
    l2: bool = False,
    opset: int = OPSET,
    dynamic_size: bool = False,
    half: bool = False,
    int8: bool = False,
    method: str | None = None,
) -> Mapping[str, Any]:
    """Write a run for other programs, and `MODEL_CARD.md` next to it; return what `sslcli export --json` prints.

    Args:
        run: run folder or checkpoint file.
        path: the file to write; it is replaced only by what agrees with the run.
        to: `onnx`, `safetensors`, `torchvision`, `timm` or `pt2`; None: by the file's ending.
        classifier: of a fine-tuned or distilled run: images to logits.
        input_kind: of ONNX, and so are the others: `float-nchw`, images by the test transform, or `uint8-nhwc`, images
            as decoded.
        l2: divide h by its length.
        opset: 18 to 23.
        dynamic_size: fitted images of any size.
        half: weights of float16.
        int8: weights of 8 bits.
        method: the run's `file.py:Class` again, if its method is your own.

    Raises:
        UsageError: what cannot be written so.
        CheckpointError: no such run, or what was written computes something else.
        ResourceError: the file cannot be written.

    Warns:
        UserWarning: for each remark, such as that the images of the run are not here to check on.
    """
    options = Options(to, classifier, opset, input_kind, l2, dynamic_size, half, int8)
    result: Mapping[str, Any] | None = None
    for event in write(os.fspath(run), Path(path), options, method):
        if isinstance(event, Warned):
            warnings.warn(event.message, stacklevel=2)
        if isinstance(event, Evaluated):
            result = event.result
    if result is None:
        raise UsageError(f"Nothing was written to {path}.")
    return result
