"""Quality of a representation: weighted kNN on frozen features, and baselines without training."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from ssl_cli import disk
from ssl_cli.config.tree import Settings
from ssl_cli.data.source import groups_of
from ssl_cli.data.sources import Evaluation
from ssl_cli.engine.build import build_untrained
from ssl_cli.engine.evaluation.features import Features, Trained, Transform, encode, fitted
from ssl_cli.errors import DivergedError, SslcliError
from ssl_cli.events import Evaluated, Event, Warned, record
from ssl_cli.names import counted
from ssl_cli.nn.evaluating import evaluating
from ssl_cli.objective import Objective, device_of
from ssl_cli.registry import H, Z
from ssl_cli.transfer.duplicates import duplicates_note
from ssl_cli.transfer.knn import default_k, k_note, score
from ssl_cli.transfer.pixels import low_resolution, pixels

TRAINED, PIXELS, UNTRAINED, THUMBNAILS = "trained", "pixels", "untrained", "thumbnails"


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
    bank, queries, start = encode_both(objective, settings, precision, data, feature, baselines, transform)
    device, voting = device_of(objective), ks or (default_k(bank.label),)
    bank_label, query_label, classes = bank.label.to(device), queries.label.to(device), len(data.queries.classes)
    results = {
        name: score(
            bank.h[name].to(device), bank_label, queries.h[name].to(device), query_label, classes=classes, ks=voting,
            temperatures=temperatures,
        )
        for name in bank.h
    }  # fmt: skip
    found = results.pop(TRAINED)
    first, names = found[0].tally, data.queries.classes
    table = [{"k": s.k, "temperature": s.temperature, **s.tally.accuracies()} for s in found]
    notes = [k_note(k, min(k, len(bank.label)), bank.label) for k in ks] or [k_note(None, found[0].k, bank.label)]
    confused = {"per_class": first.per_class(names), "confusion": {"classes": list(names), "counts": first.counts()}}
    return {
        **table[0],
        "feature": feature,
        "scores": table,
        "bank": len(bank.label),
        "queries": len(queries.label),
        "note": joined_notes(data, bank.skipped + queries.skipped, *notes, start),
        "baselines": {name: other[0].tally.top1 for name, other in results.items()},
        "started": settings.model.init_from is not None,
        **(confused if details else {}),
    }


def encode_both(
    objective: Objective, settings: Settings, precision: str, data: Evaluation, feature: str = H,
    baselines: bool = False, transform: Transform | None = None, passes: Mapping[str, Transform] = MappingProxyType({}),
) -> tuple[Features, Features, str]:  # fmt: skip
    """Encode bank and queries by the objective and, if asked, by the baselines.

    Add a note on the untrained one, and on near-duplicates where there are no groups to keep them together.

    The bank is encoded by each of `passes`, too: see `encode`.

    Raises:
        DivergedError: the objective's features are not finite.
    """

    def encoder(of: Objective) -> Callable[[Tensor], Tensor]:
        return of if feature == Z else of.represent

    device = device_of(objective)
    encoders, networks, note = {TRAINED: encoder(objective)}, [objective], ""
    if baselines:
        encoders[PIXELS] = pixels
        untrained, note = build_untrained(settings, device)
        if untrained is not None:
            networks.append(untrained)
            encoders[UNTRAINED] = encoder(untrained)
    how = {"": transform or fitted(settings)}
    thumbnails = {THUMBNAILS: low_resolution} if transform is None and groups_of(data.bank) is None else {}
    with evaluating(*networks):
        bank, queries = (
            encode(encoders | thumbnails, source, settings, device=device, precision=precision, transforms=how | more)
            for source, more in ((data.bank, dict(passes)), (data.queries, {}))
        )
    require_finite(bank)
    require_finite(queries)
    if thumbnails:
        near = duplicates_note(bank.h[TRAINED], queries.h[TRAINED], bank.h[THUMBNAILS], queries.h[THUMBNAILS])
        note = "; ".join(filter(None, (note, near)))
        bank, queries = (_without(of, THUMBNAILS) for of in (bank, queries))
    return bank, queries, note


def _without(rows: Features, encoder: str) -> Features:
    """Return the rows without those of an encoder."""
    return replace(rows, h={name: h for name, h in rows.h.items() if not name.startswith(encoder)})


def require_finite(rows: Features) -> None:
    """Refuse what the objective made of images if it is not finite.

    Raises:
        DivergedError: it is not.
    """
    if not bool(rows.h[TRAINED].isfinite().all()):
        hint = "Evaluate an earlier checkpoint: give its file as RUN."
        raise DivergedError("The representation is not finite.", hint)


def joined_notes(data: Evaluation, skipped: int, *more: str) -> str:
    """Join the notes on images, of which `skipped` cannot be read, and `more` notes; empty ones are left out."""
    left_out = f"left out: {counted(skipped, 'image')} that cannot be read" if skipped else ""
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
