"""Accuracy of a linear classifier on frozen representations."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_cli.config.images import with_data
from ssl_cli.config.tree import Settings
from ssl_cli.data.sources import Evaluation, open_evaluation
from ssl_cli.engine.evaluation.evaluate import TRAINED, H, encode_both, joined_notes, score_each
from ssl_cli.engine.evaluation.features import Transform
from ssl_cli.errors import SslcliError
from ssl_cli.events import Event
from ssl_cli.nn.evaluating import fingerprint
from ssl_cli.objective import Objective
from ssl_cli.protocols.encoder import open_encoder
from ssl_cli.protocols.request import LBFGS, LINEAR
from ssl_cli.protocols.result import scored
from ssl_cli.transfer.linear import HELD_OUT, ITERATIONS, PENALTIES, linear_probe
from ssl_cli.transfer.tally import Tally


def linear_eval(
    run: str,
    data: str | tuple[str, ...] | None = None,
    *,
    labels: str | None = None,
    baselines: bool = False,
    test_data: str | None = None,
    limit: int | None = None,
    device: str = "auto",
    method: str | None = None,
    machine: Mapping[str, Any] | None = None,
) -> Iterator[Event]:
    """Measure the accuracy of a linear probe on h; the last event is `Evaluated` named `linear`.

    Arguments and errors as for `knn_eval`; with `labels` the probe is fitted to these alone, as `finetune` would take.
    """
    trained, transform = open_encoder(run, device, method)
    settings = with_data(trained.settings, data, test_data, limit, machine)
    images = open_evaluation(settings.data, settings.run.seed, labels=labels)
    result = linear_of(trained.objective, settings, trained.precision, images, baselines=baselines, transform=transform)
    result["labels"] = labels
    yield from scored(run, trained, images, "linear", result, identity=(labels,) if labels else ())


def linear_of(
    objective: Objective, settings: Settings, precision: str, data: Evaluation, *, baselines: bool = False,
    transform: Transform | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure the accuracy of a linear probe on h of an objective in memory; keys as pinned in contracts.md.

    Raises:
        SslcliError: the backbone changed during its evaluation, which makes the result worthless.
    """

    def score(train: Tensor, train_label: Tensor, test: Tensor, test_label: Tensor) -> Mapping[str, Any]:
        known, all_classes = len(data.bank.classes), len(data.queries.classes)
        fit = linear_probe(train, train_label, classes=known, seed=settings.run.seed)
        with torch.no_grad():  # a class that only the test images have is never answered
            scores = F.pad(fit.probe(test), (0, all_classes - known), value=-torch.inf)
        tally = Tally(all_classes, test.device)
        tally.add(scores, test_label)
        found = {"l2": fit.l2, "held_out_top1": fit.held_out_top1, "converged": fit.converged}
        return {"tally": tally, "fit": found}

    before = fingerprint(objective.backbone)
    train, test, start = encode_both(objective, settings, precision, data, H, baselines, transform)
    results = score_each(score, train, test, next(objective.parameters()).device)
    if fingerprint(objective.backbone) != before:
        raise SslcliError("The backbone changed during its evaluation; please report this.")
    result, names = results.pop(TRAINED), data.queries.classes
    tally, fit, grid = result["tally"], result["fit"], {"l2_grid": list(PENALTIES), "held_out": HELD_OUT}
    features = train.h[TRAINED].shape[1]
    short = "" if fit["converged"] else f"the probe had not converged after {ITERATIONS} iterations"
    return {
        "top1": tally.top1,
        "top5": tally.top5,
        "protocol": LINEAR[LBFGS],
        "train": len(train.label),
        "test": len(test.label),
        "parameters": sum(p.numel() for p in objective.backbone.parameters()) + len(data.bank.classes) * (features + 1),
        "settings": {**fit, **grid, "iterations": ITERATIONS, "seed": settings.run.seed},
        "per_class": tally.per_class(names),
        "note": joined_notes(data, train, test, short, start),
        "baselines": {name: other["tally"].top1 for name, other in results.items()},
        "started": settings.model.init_from is not None,
    }
