"""Options of an export and their validation; without torch, so that a wrong one is refused at once."""

from dataclasses import dataclass
from pathlib import Path

from ssl_cli import disk, packages
from ssl_cli.errors import UsageError, write_error
from ssl_cli.names import shown
from ssl_cli.registry import did_you_mean

FLOAT, UINT8 = "float-nchw", "uint8-nhwc"
INPUTS = (FLOAT, UINT8)
"""Images by the test transform, or as decoded."""
OPSETS = range(18, 24)  # below 18 torch writes 18 without saying so
ONNX = "onnx"
SUFFIXES = {ONNX: ".onnx", "safetensors": ".safetensors", "torchvision": ".pth", "timm": ".pth", "pt2": ".pt2"}
"""What can be written, and the ending of its file."""
FLOAT32, FLOAT16, INT8 = "float32", "float16", "int8"
"""Types of the weights of an ONNX file."""
OPSET = 18
_NEEDED = ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True)
class Options:
    """How a run is exported.

    Attributes:
        to: one of `SUFFIXES`; None: by the file's ending.
        classifier: write a fine-tuned or distilled run whole, images to logits.
        opset: of ONNX, and so are the others: `input_kind`, one of `INPUTS`; `l2`, rows of length one; `dynamic_size`,
            images of any size; `half` and `int8`, rounded weights.
    """

    to: str | None = None
    classifier: bool = False
    opset: int = OPSET
    input_kind: str = FLOAT
    l2: bool = False
    dynamic_size: bool = False
    half: bool = False
    int8: bool = False

    @property
    def dtype(self) -> str:
        """The type of the weights."""
        return FLOAT16 if self.half else INT8 if self.int8 else FLOAT32


def check_options(output: Path, options: Options) -> str:
    """Refuse what cannot be exported; return the format.

    Raises:
        UsageError: options that exclude one another or are for another format, or a package is missing.
        ResourceError: `output` cannot be written.
    """
    if options.classifier and options.l2:
        raise UsageError("--l2 is for h, and --classifier gives logits.", "Leave one of them out.")
    form = format_of(output, options.to)
    if form != ONNX:
        given = {
            "--l2": options.l2, "--input": options.input_kind != FLOAT, "--opset": options.opset != OPSET,
            "--dynamic-size": options.dynamic_size, "--half": options.half, "--int8": options.int8,
        }  # fmt: skip
        if wrong := [flag for flag, is_given in given.items() if is_given]:
            raise UsageError(f"{wrong[0]} is for ONNX, and this writes {form}.", "Leave it out, or name FILE.onnx.")
        check_output(output, form)
        return form
    if options.half and options.int8:
        raise UsageError("--half and --int8 exclude each other.", "Leave one of them out.")
    if options.dynamic_size and options.input_kind == UINT8:
        raise UsageError(f"--input {UINT8} takes images of any size already.", "Leave --dynamic-size out.")
    check(output, options.opset, options.input_kind)
    return form


def format_of(output: Path, to: str | None) -> str:
    """Return what is written: what is asked for, or what the ending of the file says; an unknown one means ONNX.

    Raises:
        UsageError: there is no such format, or the ending is that of several.
    """
    if to is not None:
        if to not in SUFFIXES:
            raise UsageError(f"There is no --to '{shown(to)}'.", did_you_mean(to, SUFFIXES))
        return to
    found = [name for name, suffix in SUFFIXES.items() if output.suffix.lower() == suffix]
    if len(found) > 1:
        raise UsageError(f"A {output.suffix} file can be for {' or '.join(found)}.", f"Pass --to {found[0]}.")
    return found[0] if found else ONNX


def check(output: Path, opset: int, input_kind: str) -> None:
    """Refuse options that cannot be exported.

    Raises:
        UsageError: no such opset or input, no name of an ONNX file, or a package is missing.
        ResourceError: `output` cannot be written.
    """
    if opset not in OPSETS:
        raise UsageError(f"Opset {opset} cannot be written.", f"Pass --opset {OPSETS[0]} to {OPSETS[-1]}.")
    if input_kind not in INPUTS:
        raise UsageError(f"There is no --input '{input_kind}'.", did_you_mean(input_kind, INPUTS))
    check_output(output, ONNX)
    for package in _NEEDED:
        packages.require(package, "Export")


def check_output(output: Path, to: str) -> None:
    """Refuse a file that cannot be written, or whose ending is not that of `to`.

    Raises:
        UsageError: a folder, or another ending.
        ResourceError: `output` cannot be written.
    """
    name, suffix = shown(str(output)), SUFFIXES[to]
    try:
        is_folder = output.is_dir()
    except OSError as error:  # such as a name that is too long
        raise write_error(name, error, "Choose another -o.") from error
    if is_folder:
        raise UsageError(f"{name} is a folder.", f"Name a file in it: -o {output / 'encoder'}{suffix}")
    if output.suffix.lower() != suffix:
        kind = "ONNX" if to == ONNX else to
        raise UsageError(
            f"The file is written as {kind}, but '{name}' does not end in {suffix}.",
            f"Pass -o {output.with_suffix(suffix)}",
        )
    disk.require_writable(output.parent, name, "Choose another -o.")
