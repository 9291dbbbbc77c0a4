"""How good the encoder is when training ends, at a bounded cost: by labels where there are any, else without."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ssl_cli import disk, draws, records
from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.config.tree import Settings
from ssl_cli.data.source import Source
from ssl_cli.data.sources import open_evaluation
from ssl_cli.data.split import subset
from ssl_cli.engine.build import build_untrained
from ssl_cli.engine.evaluation.evaluate import TRAINED, UNTRAINED, knn_of, require_finite
from ssl_cli.engine.evaluation.features import VIEW, Transform, augmented, encode, fitted
from ssl_cli.errors import DataError, NoLabelsError, SslcliError, convert_exception
from ssl_cli.events import Evaluated, Event, Warned, record
from ssl_cli.nn.evaluating import evaluating
from ssl_cli.objective import Objective, device_of
from ssl_cli.registry import H, Z
from ssl_cli.transfer.label_free import measures
from ssl_cli.verdict import Score, advise, training_of

QUERIES, BANK, UNLABELLED = 2_000, 10_000, 2_000
"""Images at most."""
PART, FEWEST = 5, 200
"""At most one image is evaluated for every `PART` that training has seen, so it takes less than a tenth of the time
(one view's forward pass in two networks, against two views' forward and backward passes); but always up to `FEWEST`."""
SECOND = " second view"
_STREAM = -3


def quality(
    objective: Objective, settings: Settings, precision: str, source: Source, *, step: int, folder: Path
) -> Iterator[Event]:
    """Yield `knn` where there are labels, and `quality`: the encoder next to the same network untrained, and advice.

    Without labels, and with those of one class, it is neighbour consistency and RankMe of training images. Errors are
    a `Warned`: training is complete and saved. `quality` is also written to `eval/quality.json` of the run folder.

    Args:
        objective: as it was trained.
        settings: of the run.
        precision: of the forward pass.
        source: the training images.
        step: the last one.
        folder: of the run.
    """
    most = max(FEWEST, step * settings.run.batch // PART)
    try:
        try:
            queries = min(QUERIES, most // 3)
            images = open_evaluation(settings.data, settings.run.seed)
            images = images.part(min(BANK, most - queries), queries, settings.run.seed)
            labelled = len(images.bank.classes) > 1
        except DataError as error:
            labelled = False
            if not isinstance(error, NoLabelsError):
                yield Warned(step=step, message=f"No kNN: {error.message}", hint=error.hint)
        if labelled:
            knn = knn_of(objective, settings, precision, images, baselines=True)
            yield Evaluated(step=step, name="knn", result=knn)
            found: dict[str, Any] = {"measure": "knn", "images": knn["queries"], TRAINED: {"top1": knn["top1"]}}
            found |= {name: {"top1": top1} for name, top1 in knn["baselines"].items()}
            score = Score("kNN top-1", knn["top1"], knn["queries"], knn["baselines"])
        else:
            found = label_free(objective, settings, precision, source, min(UNLABELLED, most))
            baselines = {name: found[name]["consistency"] for name in {UNTRAINED} & found.keys()}
            score = Score("neighbour consistency", found[TRAINED]["consistency"], found["images"], baselines, 0.02)
        training = training_of(settings, step, step, str(folder), records.logged_steps(folder))
        found["advice"] = advise(training, score).as_dict()
        event = Evaluated(step=step, name="quality", result=found)
        disk.make_folder(folder / "eval")
        disk.write_json(folder / "eval" / "quality.json", {**record(event), "checkpoint": f"step {step}"})
        yield event
    except (SslcliError, MemoryError, RuntimeError, OSError) as error:
        converted = convert_exception(error)
        yield Warned(step=step, message=f"The quality was not measured: {converted.message}", hint=converted.hint)


def label_free(
    objective: Objective, settings: Settings, precision: str, source: Source, count: int, *, feature: str = H,
    compared: bool = True, geometry: bool = False, transform: Transform | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure neighbour consistency and RankMe on `count` images, of the encoder and of the same one untrained.

    Args:
        objective: the encoder.
        settings: of the images and their views.
        precision: of the forward pass.
        source: the images, of which some are chosen by the seed.
        count: images at most.
        feature: `h`, or `z`, the projector's output.
        compared: measure the untrained network, too.
        geometry: measure alignment and uniformity, too: another view of each image.
        transform: what is done to an image first; None: the test transform.
    """
    device, seed = device_of(objective), settings.run.seed
    part = subset(source, draws.permutation(seed, len(source), _STREAM)[:count].sort().values)
    untrained, note = build_untrained(settings, device) if compared else (None, "")
    networks = {TRAINED: objective} | ({} if untrained is None else {UNTRAINED: untrained})
    encoders = {name: network if feature == Z else network.represent for name, network in networks.items()}
    with evaluating(*networks.values()):
        pipeline = Pipeline(settings.views, settings.data.size, seed)
        made = {"": transform or fitted(settings), VIEW: augmented(pipeline)}
        made |= {SECOND: augmented(pipeline, view=1)} if geometry else {}
        rows = encode(encoders, part, settings, device=device, precision=precision, transforms=made)
    require_finite(rows)
    found = {name: measures(*(rows.h[name + suffix] for suffix in made)) for name in encoders}
    width = rows.h[TRAINED].shape[1]
    facts = {"images": len(rows.label), "width": width, "started": settings.model.init_from is not None}
    return {"measure": "consistency", **facts, "note": note, **found}
