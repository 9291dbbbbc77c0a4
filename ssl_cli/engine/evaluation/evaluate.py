"""Quality of a representation: weighted kNN on frozen features, and baselines without training."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ssl_cli import disk
from ssl_cli.config.tree import Settings
from ssl_cli.data.sources import Evaluation
from ssl_cli.engine.build import build_untrained
from ssl_cli.engine.evaluation.features import Features, Trained, Transform, encode
from ssl_cli.errors import DivergedError, SslcliError
from ssl_cli.events import Evaluated, Event, Warned, record
from ssl_cli.nn.evaluating import evaluating
from ssl_cli.objective import Objective
from ssl_cli.transfer.knn import Scored, default_k, k_note, score
from ssl_cli.transfer.pixels import pixels

H, Z = "h", "z"
Result = TypeVar("Result")
TRAINED, PIXELS, UNTRAINED = "trained", "pixels", "untrained"


def knn_of(
    objective: Objective,
    settings: Settings,
    precision: str,
    data: Evaluation,
    *,
    ks: Sequence[int] = (),
    temperatures: Sequence[float] = (0.1,),
    feature: str = H,
    baselines: bool = False,
    details: bool = False,
    transform: Transform | None = None,
) -> dict[str, Any]:
    """Measure the weighted kNN accuracy of an objective; keys by contracts.md.

    Args:
        objective: its backbone, or all of it for z.
        settings: of the images.
        precision: of the forward pass.
        data: bank and queries.
        ks: neighbours; none: `default_k`. The result is that of the first k and temperature, and `scores` has all.
        temperatures: T of the vote exp(s / T).
        feature: `h`, the output of the backbone, or `z`, the projector's output of unit length.
        baselines: measure raw pixels and the same network untrained, too.
        details: also return the accuracy of each class and the confusion matrix.
        transform: what is done to an image first; None: the test transform.
    """

    def scored(bank: Tensor, bank_label: Tensor, query: Tensor, query_label: Tensor) -> list[Scored]:
        voting, classes = ks or (default_k(bank_label),), len(data.queries.classes)
        return score(bank, bank_label, query, query_label, classes=classes, ks=voting, temperatures=temperatures)

    bank, queries, start = encode_both(objective, settings, precision, data, feature, baselines, transform)
    results = score_each(scored, bank, queries, next(objective.parameters()).device)
    found = results.pop(TRAINED)
    first, names = found[0].tally, data.queries.classes
    table = [{"k": s.k, "temperature": s.temperature, "top1": s.tally.top1, "top5": s.tally.top5} for s in found]
    notes = [k_note(k, min(k, len(bank.label)), bank.label) for k in ks] or [k_note(None, found[0].k, bank.label)]
    confused = {"per_class": first.per_class(names), "confusion": {"classes": list(names), "counts": first.counts()}}
    return {
        **table[0],
        "feature": feature,
        "scores": table,
        "bank": len(bank.label),
        "queries": len(queries.label),
        "note": joined_notes(data, bank, queries, *notes, start),
        "baselines": {name: other[0].tally.top1 for name, other in results.items()},
        "started": settings.model.init_from is not None,
        **(confused if details else {}),
    }


def encode_both(
    objective: Objective, settings: Settings, precision: str, data: Evaluation, feature: str = H,
    baselines: bool = False, transform: Transform | None = None,
) -> tuple[Features, Features, str]:  # fmt: skip
    """Encode bank and queries by the objective and, if asked, by the baselines; add a note on the untrained one.

    Raises:
        DivergedError: the objective's features are not finite.
    """

    def encoder(of: Objective) -> Callable[[Tensor], Tensor]:
        return of if feature == Z else of.represent

    device = next(objective.parameters()).device
    encoders, networks, note = {TRAINED: encoder(objective)}, [objective], ""
    if baselines:
        encoders[PIXELS] = pixels
        untrained, note = build_untrained(settings, device)
        if untrained is not None:
            networks.append(untrained)
            encoders[UNTRAINED] = encoder(untrained)
    how = None if transform is None else {"": transform}
    with evaluating(*networks):
        bank, queries = (
            encode(encoders, source, settings, device=device, precision=precision, transforms=how)
            for source in (data.bank, data.queries)
        )
    if not all(bool(rows.h[TRAINED].isfinite().all()) for rows in (bank, queries)):
        hint = "Evaluate an earlier checkpoint: give its file as RUN."
        raise DivergedError("The representation is not finite.", hint)
    return bank, queries, note


def score_each(
    score: Callable[..., Result], train: Features, test: Features, device: torch.device
) -> dict[str, Result]:
    """Call `score` with the rows and labels of train and test, on `device`, for each encoder."""
    train_label, test_label = train.label.to(device), test.label.to(device)
    return {name: score(train.h[name].to(device), train_label, test.h[name].to(device), test_label) for name in train.h}


def joined_notes(data: Evaluation, bank: Features, queries: Features, *more: str) -> str:
    """Join what is to be said of the images, and `more`; empty: nothing."""
    skipped = bank.skipped + queries.skipped
    left_out = f"{skipped} images could not be read and are left out" if skipped else ""
    return "; ".join(dict.fromkeys(filter(None, (data.note, left_out, *more))))


def conclude(
    run: str, trained: Trained, name: str, result: dict[str, Any], path: Path, newest: str = "", **facts: str
) -> Iterator[Event]:
    """Yield notes and `Evaluated`; where `run` is a folder write that to `path`, too; `Warned` where that fails.

    A copy of the newest result is the file `newest` in the same folder.
    """
    yield from (Warned(step=trained.step, message=note) for note in trained.notes)
    event = Evaluated(step=trained.step, name=name, result={**result, "step": trained.step})
    if Path(run).is_dir():
        try:
            path.parent.mkdir(exist_ok=True)
            for file in (path, *([path.with_name(newest)] if newest else [])):
                disk.write_json(file, {**record(event), "checkpoint": trained.checkpoint, **facts})
        except (OSError, SslcliError) as error:
            yield Warned(step=trained.step, message=f"The result was not written: {error}")
    yield event
