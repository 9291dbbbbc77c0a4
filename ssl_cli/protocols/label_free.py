"""What can be said of an encoder without labels, and how it moved in training."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ssl_cli import records
from ssl_cli.config.images import named_images
from ssl_cli.config.tree import Settings
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.evaluation.evaluate import conclude
from ssl_cli.engine.evaluation.features import Trained, Transform
from ssl_cli.engine.evaluation.quality import UNLABELLED, label_free
from ssl_cli.events import Event
from ssl_cli.protocols.request import is_onnx
from ssl_cli.run_path import result_file

LOGGED = ("alignment", "uniformity", "effective_rank")
"""Numbers of z that training logs."""
MEANING = (
    "Nearer views (higher consistency, lower alignment) and more even images (lower uniformity, higher RankMe) speak "
    "for an encoder only together, and next to another one on the same images: none of them knows the classes"
)


def measured(
    run: str, trained: Trained, settings: Settings, feature: str, transform: Transform | None, why: str
) -> Iterator[Event]:
    """Measure an encoder on images without labels; the last event is `Evaluated` named `quality`.

    Args:
        run: run folder or file.
        trained: the encoder.
        settings: of the images, up to 2,000 of which are chosen by the seed.
        feature: `h` or `z`.
        transform: what is done to an image first; None: the test transform.
        why: why it is measured so, for the result's note.
    """
    images = settings.data.model_copy(update={"labels": None, "labels_sha256": None, "unlabelled": False})
    source = open_pretraining(images, settings.run.seed)
    result = label_free(
        trained.objective, settings, trained.precision, source, UNLABELLED, feature=feature,
        compared=not is_onnx(run), geometry=True, transform=transform,
    )  # fmt: skip
    folder = Path(run)
    moved = trend(records.logged_steps(folder))
    result |= {"feature": feature, "trend": moved, "meaning": MEANING, "data": source.name}
    result["note"] = "; ".join(filter(None, (why, result["note"])))
    identity = (source.name, len(source), *named_images(settings), settings.run.seed)
    file = result_file("label-free", Path(trained.checkpoint).stem, identity, [feature])
    yield from conclude(run, trained, "quality", result, folder / "eval" / file)


def trend(steps: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the first and the last of each number of z that training logged, and their steps; see `logged_steps`."""
    logged = [(event["step"], records.table(event, "numbers")) for event in steps]
    found = dict[str, dict[str, Any]]()
    for name in LOGGED:
        values = [(step, records.number(numbers.get(name))) for step, numbers in logged]
        known = [(step, value) for step, value in values if value is not None]
        if len(known) > 1:
            (first_step, first), (last_step, last) = known[0], known[-1]
            found[name] = {"first": first, "first_step": first_step, "last": last, "last_step": last_step}
    return found
