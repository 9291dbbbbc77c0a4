"""Accuracy of a linear classifier on frozen representations, by one of four protocols."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_cli import draws, memory
from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.config.augment import AugmentSettings, CropSettings
from ssl_cli.config.images import with_data
from ssl_cli.config.tree import Settings
from ssl_cli.data.decoded import decoded
from ssl_cli.data.source import group_ids
from ssl_cli.data.sources import Evaluation, open_evaluation
from ssl_cli.engine.evaluation.evaluate import TRAINED, encode_both, joined_notes, require_finite
from ssl_cli.engine.evaluation.features import Transform, augmented, encode, fitted
from ssl_cli.errors import SslcliError
from ssl_cli.events import Encoded, Event
from ssl_cli.nn.evaluating import evaluating, fingerprint
from ssl_cli.objective import Objective, device_of
from ssl_cli.protocols.encoder import open_encoder
from ssl_cli.protocols.request import FAST, LBFGS, LINEAR
from ssl_cli.protocols.result import scored
from ssl_cli.registry import H
from ssl_cli.transfer import grid_probe, sgd_probe
from ssl_cli.transfer.linear import HELD_OUT, ITERATIONS, PENALTIES, linear_probe
from ssl_cli.transfer.sgd_probe import Carry, SgdProbe
from ssl_cli.transfer.tally import Tally

PART = 4096
"""Images that are encoded before the classifier takes its steps on them."""
KEPT = 4
"""Decoded images take this part of the free memory at most; those that do not fit are decoded in each epoch."""
Answer = tuple[Tensor, dict[str, Any], str]
"""Scores of the test images `(Q, classes)`, settings and findings of the classifier, and a note."""


def linear_eval(
    run: str,
    data: str | tuple[str, ...] | None = None,
    *,
    protocol: str = LBFGS,
    labels: str | None = None,
    baselines: bool = False,
    test_data: str | None = None,
    limit: int | None = None,
    device: str = "auto",
    method: str | None = None,
    machine: Mapping[str, Any] | None = None,
) -> Iterator[Event]:
    """Measure the accuracy of a linear probe on h; the last event is `Evaluated` named `linear`.

    It is the accuracy of the classifier at its end: the test images choose nothing.

    Arguments and errors as for `knn_eval`; `protocol` is one of `LINEAR`; with `labels` the probe is fitted to these
    alone, as `finetune` would take.
    """
    trained, transform = open_encoder(run, device, method)
    settings = with_data(trained.settings, data, test_data, limit, machine)
    images = open_evaluation(settings.data, settings.run.seed, labels=labels)
    how = (trained.objective, settings, trained.precision, images)
    if protocol in sgd_probe.PROTOCOLS:
        result = yield from trained_by_sgd(*how, protocol, transform)
    else:
        result = linear_of(*how, fast=protocol == FAST, baselines=baselines, transform=transform)
    result["labels"] = labels
    words = [] if protocol == LBFGS else [protocol]
    yield from scored(run, trained, images, "linear", result, settings, words, identity=(labels,) if labels else ())


def linear_of(
    objective: Objective, settings: Settings, precision: str, data: Evaluation, *, fast: bool = False,
    baselines: bool = False, transform: Transform | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure the accuracy of a linear probe on h of an objective in memory; keys as pinned in contracts.md.

    Raises:
        SslcliError: the backbone changed during its evaluation, which makes the result worthless.
    """
    before, device, passes = fingerprint(objective.backbone), device_of(objective), dict[str, Transform]()
    if fast:
        pipeline = crops_and_flips(settings)
        passes = {f" {epoch}": augmented(pipeline, epoch) for epoch in range(1, grid_probe.PASSES + 1)}
    train, test, start = encode_both(objective, settings, precision, data, H, baselines, transform, passes)
    require_unchanged(objective, before)
    answers, group = dict[str, Answer](), group_ids(data.bank, train.index)
    for name, queries in test.h.items():
        rows = [train.h[name + suffix].to(device) for suffix in ("", *passes)]
        probe, classes, seed = _grid if fast else _lbfgs, len(data.bank.classes), settings.run.seed
        answers[name] = probe(rows, train.label.to(device), queries.to(device), classes, seed, group)
    tallies = {name: _tally(scores, test.label.to(device), data) for name, (scores, _, _) in answers.items()}
    _, found, note = answers[TRAINED]
    notes = joined_notes(data, train.skipped + test.skipped, note, start)
    result = _result(objective, settings, data, tallies.pop(TRAINED), train.h[TRAINED], len(test.label), notes)
    others = {name: tally.top1 for name, tally in tallies.items()}
    return {**result, "protocol": LINEAR[FAST if fast else LBFGS], "settings": found, "baselines": others}


def trained_by_sgd(
    objective: Objective, settings: Settings, precision: str, data: Evaluation, protocol: str,
    transform: Transform | None = None,
) -> Generator[Event, None, dict[str, Any]]:  # fmt: skip
    """Train a linear classifier on crops and flips of the training images, new ones each epoch; return the result.

    Yields how many images are encoded, of those of all epochs.

    Raises:
        SslcliError: the backbone changed, or the classifier diverged.
    """
    how, images, device = sgd_probe.PROTOCOLS[protocol], len(data.bank), device_of(objective)
    epochs, batch, seed = int(how.schedule.epochs), how.batch_of(images, settings.data.size), settings.run.seed
    before, pipeline, classes = fingerprint(objective.backbone), crops_and_flips(settings), len(data.bank.classes)
    encoded = partial(encode, {TRAINED: objective.represent}, settings=settings, device=device, precision=precision)
    bank = decoded(data.bank, memory.available() // KEPT)
    with evaluating(objective):
        test = encoded(data.queries, transforms={"": transform or fitted(settings)})
        require_finite(test)
        width = test.h[TRAINED].shape[1]
        probe = SgdProbe(width, classes, how, batch=batch, images=images, seed=seed, device=device)
        for epoch in range(epochs):
            carry, view = Carry(batch), {"": augmented(pipeline, epoch)}
            for number, part in enumerate(torch.split(draws.permutation(seed, images, epoch), PART)):
                yield Encoded(done=epoch * images + number * PART, of=epochs * images)
                rows = encoded(bank, transforms=view, indices=part)
                for h, label in carry.add(rows.h[TRAINED].to(device), rows.label.to(device)):
                    probe.learn(h, label)
            for h, label in carry.rest():
                probe.learn(h, label)
    require_unchanged(objective, before)
    tally = _tally(probe.scores(test.h[TRAINED].to(device)), test.label.to(device), data)
    notes = joined_notes(data, test.skipped)
    result = _result(objective, settings, data, tally, rows.h[TRAINED], len(test.label), notes)
    facts = {"epochs": epochs, "batch": batch, "rate": probe.peak, "steps": probe.step, "seed": seed}
    return {**result, "train": images, "protocol": LINEAR[protocol], "settings": facts, "baselines": {}}


def crops_and_flips(settings: Settings) -> Pipeline:
    """Return random crops of 8 to 100 % of an image and flips, normalised as the encoder was trained."""
    how = settings.augment
    end = ("normalize",) if "normalize" in settings.views.order else ()
    crop = CropSettings(interpolation=how.crop.interpolation)
    alone = AugmentSettings(order=("crop", "flip", *end), crop=crop, normalize=how.normalize)
    return Pipeline(alone, settings.data.size, settings.run.seed)


def require_unchanged(objective: Objective, before: str) -> None:
    """Refuse a result if the backbone's bytes are not those of the fingerprint `before`.

    Raises:
        SslcliError: they are not.
    """
    if fingerprint(objective.backbone) != before:
        raise SslcliError("The backbone changed during its evaluation; please report this.")


def _lbfgs(
    rows: Sequence[Tensor], label: Tensor, test: Tensor, classes: int, seed: int, group: Tensor | None
) -> Answer:
    fit = linear_probe(rows[0], label, classes=classes, seed=seed, group=group)
    found = {"l2": fit.l2, "held_out_top1": fit.held_out_top1, "converged": fit.converged}
    grid = {"l2_grid": list(PENALTIES), "held_out": HELD_OUT, "iterations": ITERATIONS, "seed": seed}
    short = "" if fit.converged else f"the probe had not converged after {ITERATIONS} iterations"
    with torch.no_grad():
        return fit.probe(test), found | grid, short


def _grid(rows: Sequence[Tensor], label: Tensor, test: Tensor, classes: int, seed: int, group: Tensor | None) -> Answer:
    fit = grid_probe.grid_probe(rows, label, classes=classes, seed=seed, group=group)
    found = {"rate": fit.rate, "l2": fit.l2, "held_out_top1": fit.held_out_top1, "passes": len(rows)}
    rates, penalties = list(grid_probe.RATES), list(grid_probe.PENALTIES)
    grid = {"rates": rates, "l2_grid": penalties, "held_out": HELD_OUT, "epochs": grid_probe.EPOCHS, "seed": seed}
    return fit.scores(test), found | grid, ""


def _tally(scores: Tensor, labels: Tensor, data: Evaluation) -> Tally:
    """Count right answers; a class that only the test images have is never answered."""
    classes = len(data.queries.classes)
    tally = Tally(classes, scores.device)
    tally.add(F.pad(scores, (0, classes - scores.shape[1]), value=-torch.inf), labels)
    return tally


def _result(
    objective: Objective, settings: Settings, data: Evaluation, tally: Tally, train: Tensor, test: int, note: str
) -> dict[str, Any]:  # fmt: skip
    """Return what the result of any protocol holds; `train` are rows `(N,F)` that the classifier saw."""
    names, classes = data.queries.classes, len(data.bank.classes)
    return {
        **tally.accuracies(),
        "train": len(train),
        "test": test,
        "parameters": sum(p.numel() for p in objective.backbone.parameters()) + classes * (train.shape[1] + 1),
        "per_class": tally.per_class(names),
        "confusion": {"classes": list(names), "counts": tally.counts()},
        "note": note,
        "started": settings.model.init_from is not None,
    }
