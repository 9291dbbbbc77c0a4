"""The end of an export: the file, its model card, its record in the run folder, and the event of the result."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_cli import __version__, disk, records, status
from ssl_cli.augment import evaluation
from ssl_cli.config.tree import Settings
from ssl_cli.engine.evaluation.evaluate import conclude
from ssl_cli.engine.evaluation.features import Trained
from ssl_cli.errors import ResourceError, write_error
from ssl_cli.events import Event, Warned
from ssl_cli.exports import model_card
from ssl_cli.formats.preprocessing import Preprocessing

ENCODERS = ("trained", "untrained", "pixels")
AT_THE_END = {"top1": "kNN top-1", "consistency": "nearest neighbours that are an image's own view,"}
"""Measures in `quality` of a run's status, and their labels."""
MEASURES = {"knn": "kNN", "linear": "linear probe", "finetune": "fine-tuned", "distill": "distilled"}
"""Names of the results in a run's `eval/` that a model card lists."""
_DETAILS = {
    "k": "k", "temperature": "temperature", "feature": "on", "protocol": "protocol", "queries": "queries",
    "bank": "bank", "train": "training images", "test": "test images", "step": "step",
}  # fmt: skip
"""Entries of a result that the model card lists, and their labels."""


def origin(trained: Trained) -> dict[str, Any]:
    """Describe where the weights come from; of a user's own method the class alone, not the path of its file."""
    settings = trained.settings
    return {
        "version": __version__,
        "method": settings.method.name.rpartition(":")[2],
        "backbone": settings.model.title,
        "image_size": settings.data.size,
        "step": trained.step,
    }


def preprocessing_of(settings: Settings) -> Preprocessing:
    """Return the parameters of `evaluation.fit`, the test transform."""
    normalize = settings.augment.normalize if "normalize" in settings.views.order else None
    size, interpolation = settings.data.size, settings.augment.crop.interpolation
    mean, std = (normalize.mean, normalize.std) if normalize else (None, None)
    short, data = evaluation.short_side(size), settings.data
    return Preprocessing(size, short, interpolation, mean, std, data.channels, data.range, data.bits)


def finish(
    run: str, trained: Trained, output: Path, data: bytes, result: Mapping[str, Any], *, usage: Sequence[str],
    preprocessing: Mapping[str, Any], record: str,
) -> Iterator[Event]:  # fmt: skip
    """Write the file, and its model card next to it; yield the result, which is recorded in the run folder, too.

    Args:
        run: run folder or checkpoint file.
        trained: what was read from it.
        output: the file.
        data: its content.
        result: of the export, with descriptions `input`, `output` and `checked`.
        usage: lines of Python that load the file and encode an image.
        preprocessing: of an image, as `describe_preprocessing`.
        record: name of the record in the run's `export/`.

    Raises:
        ResourceError: the file cannot be written.
    """
    sha256, size = _write_file(output, data)
    whole = {"path": str(output), "bytes": size, **result, "sha256": sha256}
    images = {"number": records.whole(trained.resolved.get("images")), "fingerprint": _fingerprint(trained)}
    text = model_card.text_of(
        output.name, {**origin(trained), **whole}, trained.settings, usage,
        images=images, measured=[*_measured(Path(run))], preprocessing=preprocessing,
    )  # fmt: skip
    try:
        path = model_card.write(output, text)
        why = f"{output.parent / model_card.NAME} was edited, or not written by sslcli"
        note = "" if path else f"{why}: no model card was written."
    except ResourceError as error:
        path, note = None, f"No model card was written: {error.message}"
    yield from [Warned(step=trained.step, message=note)] if note else []
    whole["model_card"] = None if path is None else str(path)
    yield from conclude(run, trained, "export", whole, Path(run) / "export" / record)


def _write_file(output: Path, data: bytes) -> tuple[str, int]:
    """Write the file atomically; return its sha256 and size."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(str(output), error, "Choose another -o.") from error
    return disk.write_bytes(output, data)


def _fingerprint(trained: Trained) -> str | None:
    found = trained.resolved.get("fingerprint")
    return found if isinstance(found, str) else None


def _measured(run: Path) -> Iterator[str]:
    """Yield a line for each result in the run folder, the one at the end of training first."""
    quality = records.table(status.read(run), "quality")
    for measure, words in AT_THE_END.items():
        values = {name: records.share(records.table(quality, name).get(measure)) for name in ENCODERS}
        if (trained := values.pop("trained")) is not None:
            others = ", ".join(f"{name} {100 * value:.1f} %" for name, value in values.items() if value)
            yield f"at the end of training: {words} {100 * trained:.1f} %" + (f" ({others})" if others else "")
    for name, words in MEASURES.items():
        found = records.result_of(run, name)
        if "top1" not in found:
            continue
        top5 = f", top-5 {100 * found['top5']:.1f} %" if "top5" in found else ""
        details = [
            f"{label} {found[key]}" for key, label in _DETAILS.items() if isinstance(found.get(key), str | int | float)
        ]
        baselines = {key: records.share(value) for key, value in records.table(found, "baselines").items()}
        details += [f"{key} {100 * top1:.1f} %" for key, top1 in baselines.items() if top1 is not None]
        yield f"{words}: top-1 {100 * found['top1']:.1f} %{top5}" + (f" ({', '.join(details)})" if details else "")
