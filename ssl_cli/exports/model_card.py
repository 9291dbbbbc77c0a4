"""`MODEL_CARD.md` next to an export: usage, training, accuracy, preprocessing and settings."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from ssl_cli import disk
from ssl_cli.config.tree import Settings
from ssl_cli.config.units import format_bytes
from ssl_cli.names import encode_paths, is_there, shown

NAME = "MODEL_CARD.md"
MARK = "<!-- written by sslcli for {file}; replaced by the next export of it while its sha256 is {digest} -->"
LIBRARIES = {"onnx": "onnxruntime", "safetensors": "safetensors", "torchvision": "torchvision", "timm": "timm",
             "pt2": "torch"}  # fmt: skip
SHOWN = {
    "method": None,
    "model": ("backbone", "width", "stem", "sk", "zero_init", "init", "bn_group"),
    "data": ("size", "channels", "range", "depth", "normalize"),
    "optim": None,
    "schedule": None,
    "run": ("batch", "seed", "recipe"),
    "augment": None,
}
"""The settings that the model card lists, by section; None: all. None of them is a path."""
PATHS = {"run", "checkpoint", "recipe"}
"""Settings that may hold a path on this machine, and are then left out."""


def write(output: Path, text: str) -> Path | None:
    """Write the model card of an export next to it, and return its path; None where both names are taken.

    It replaces an earlier one of the same file that nobody has edited. Where `MODEL_CARD.md` is another, it is written
    as `FILE.MODEL_CARD.md`.

    Raises:
        ResourceError: it cannot be written.
    """
    marked = f"{text}\n{MARK.format(file=shown(output.name), digest=hashlib.sha256(text.encode()).hexdigest())}\n"
    for path in (output.with_name(NAME), output.with_name(f"{output.name}.{NAME}")):
        if not is_there(path) or _is_unedited(path, output.name):
            disk.write_bytes(path, marked.encode())
            return path
    return None


def _is_unedited(path: Path, file: str) -> bool:
    """Return whether a model card was written for this file and has not been edited since."""
    with contextlib.suppress(OSError, ValueError):
        text, _, mark = disk.read_bytes(path).decode().rstrip("\n").rpartition("\n")
        return mark == MARK.format(file=shown(file), digest=hashlib.sha256(text.encode()).hexdigest())
    return False


def text_of(
    file: str, result: Mapping[str, Any], settings: Settings, usage: Sequence[str], *, images: Mapping[str, Any],
    measured: Sequence[str], preprocessing: Mapping[str, Any],
) -> str:  # fmt: skip
    """Return the text of a model card.

    Args:
        file: name of the export.
        result: of the export: format, size, input, output, check.
        settings: of the run.
        usage: lines of Python that load the file and encode an image.
        images: number and fingerprint of the training images, as far as they are known.
        measured: a line for each result.
        preprocessing: of an image, as `describe_preprocessing`.
    """
    method, form = settings.method.name.rpartition(":")[2], str(result.get("format", "onnx"))
    head = ["---", f"library_name: {LIBRARIES[form]}", "tags:", "- self-supervised", "- contrastive", f"- {method}",
            "- image-feature-extraction", "---"]  # fmt: skip
    known = {
        "method": method,
        "network": settings.model.title,
        "file": f"{form}, {format_bytes(result['bytes'])}, sha256 `{result['sha256']}`",
        "input": result["input"],
        "output": result["output"],
        "steps": f"{result['step']:,}",
        "checked": result["checked"],
        **({"weights": _rounding(result)} if "float32_bytes" in result else {}),
        "written by": f"sslcli {result['version']}",
    }
    rows = [f"| {name} | {value} |" for name, value in known.items()]
    parts = [
        *head, "", f"# {shown(file)}", "", _what(settings, result), "",
        "## Use", "", "```python", *usage, "```", "",
        "## What it is", "", "| | |", "|---|---|", *rows, "",
        "## Training images", "", _data(settings, images), "",
        "## Measured", "", *(f"- {line}" for line in measured or ["Nothing yet: `sslcli knn-eval RUN` does."]), "",
        "## Preprocessing", "", _words(preprocessing), "", "```json", json.dumps(preprocessing, indent=1), "```", "",
        "## Settings", "", "```toml", *_settings(settings), "```", "",
        "## Licence", "", "None is stated. Choose one that the licences of the images and of any initial "
        "weights allow.",
    ]  # fmt: skip
    return "\n".join(parts)


def _what(settings: Settings, result: Mapping[str, Any]) -> str:
    start = " Training started from other weights." if settings.model.init_from or settings.model.pretrained else ""
    if "classes" in result:
        names = ", ".join(shown(name) for name in result["classes"])
        return f"An image classifier. Its classes, in the order of the logits: {names}.{start}"
    return f"An image encoder, trained by contrastive learning without labels: from an image to a vector h.{start}"


def _rounding(result: Mapping[str, Any]) -> str:
    """Describe the size and the accuracy of the weights before they were rounded."""
    dtype, knn = result["numbers"], result.get("knn")
    cost = f"; kNN top-1 {100 * knn[dtype]:.1f} %, {100 * knn['float32']:.1f} % in float32" if knn else ""
    return f"{dtype}, rounded from {format_bytes(result['float32_bytes'])} of float32{cost}"


def _data(settings: Settings, images: Mapping[str, Any]) -> str:
    places = settings.data.places
    named = "images drawn by sslcli (`shapes`)" if not places else "images"
    number = f"{images['number']:,} {named}" if images.get("number") else named.capitalize()
    mark = f", fingerprint `{images['fingerprint']}`" if images.get("fingerprint") else ""
    more = "" if not places else " Add what they show and where they are from."
    return f"{number}, {settings.data.size} pixels a side in training{mark}.{more}"


def _words(facts: Mapping[str, Any]) -> str:
    """Describe the test transform in a sentence."""
    steps = [f"resize the short side to {facts['resize_short_side']} pixels ({facts['interpolation']}, antialiased)"]
    steps += [f"crop the centre, {facts['size']} x {facts['size']}", "divide by 255"]
    steps += ["subtract the mean, divide by the standard deviation"] if facts["mean"] is not None else []
    if facts["range"] is not None:
        unrounded = ", without rounding" if facts["depth"] == 16 else ""
        steps.insert(0, f"scale the numbers of the range {facts['range']} to 0 and 255{unrounded}")
    where = "The file does it" if facts["in_graph"] else "The caller does it"
    first = "The caller turns a picture upright by its EXIF orientation"
    first += f" and lays it on {white} where it is transparent" if (white := facts["transparency"]) else ""
    return f"{first}. {where}: {', '.join(steps)}. An image of {facts['size']} x {facts['size']} is not resized."


def _settings(settings: Settings) -> Iterator[str]:
    tables = settings.model_dump(mode="json", exclude_none=True)
    for section, names in SHOWN.items():
        table = {
            name: value
            for name, value in tables[section].items()
            if (names is None or name in names) and not (name in PATHS and "/" in str(value))
        }
        if section == "method":
            table["name"] = str(table["name"]).rpartition(":")[2]
            table.pop("run", None)
        yield from tomli_w.dumps({section: encode_paths(table)}).splitlines()
