"""How good a representation is: nearest neighbours and a linear probe on frozen h, beside what needs no training."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_cli.config.tree import Settings
from ssl_cli.data.sources import Evaluation, open_evaluation
from ssl_cli.engine.build import build_objective
from ssl_cli.engine.evaluation.features import (
    Features,
    Represent,
    Trained,
    encode,
    evaluating,
    fingerprint,
    open_run,
    pixels,
)
from ssl_cli.engine.run import disk
from ssl_cli.errors import DivergedError, SslcliError, convert_exception
from ssl_cli.events import Evaluated, Event, Warned, record
from ssl_cli.objective import Objective
from ssl_cli.transfer.knn import accuracy, knn
from ssl_cli.transfer.linear import HELD_OUT, ITERATIONS, PENALTIES, PROTOCOL, linear_probe

Score = Callable[[Tensor, Tensor, Tensor, Tensor], Mapping[str, Any]]
"""(training rows, their labels, test rows, their labels) -> a result with `top1`."""
LARGEST_BANK = 20_000
"""Images that training's end compares with; a million would take longer than it is worth."""
ENCODER, PIXELS, UNTRAINED = "h", "pixels", "untrained"


def knn_eval(
    run: str,
    data: str | None = None,
    *,
    k: int = 200,
    temperature: float = 0.1,
    baselines: bool = False,
    test_data: str | None = None,
    limit: int | None = None,
    device: str = "auto",
    method: str | None = None,
    machine: Mapping[str, Any] | None = None,
) -> Iterator[Event]:
    """Weighted kNN accuracy of a run's encoder; ends with `Evaluated` named `knn`.

    Args:
        run: run folder or checkpoint file.
        data: images that hold the bank; absent: the run's own.
        k: neighbours.
        temperature: T of the vote exp(s / T).
        baselines: also raw pixels, and the same network untrained.
        test_data: folder of queries; absent: what belongs to `data`.
        limit: first images of each class only.
        device: where to compute.
        method: the run's method again, if it is the user's own.
        machine: the machine's `folder` of data sets, decode `threads`, and whether to `download`; what it leaves out is
            as it was in the run, but nothing is downloaded unasked.

    Raises:
        SslcliError: no such run, data without labels, or a representation that is not finite.
    """
    trained = open_run(run, device, method)
    settings = _with_data(trained.settings, data, test_data, limit, machine)
    found = open_evaluation(settings.data, settings.run.seed)
    result = knn_of(
        trained.objective, settings, trained.precision, found, k=k, temperature=temperature, baselines=baselines
    )
    yield from _conclude(run, trained, found, "knn", result)


def linear_eval(
    run: str,
    data: str | None = None,
    *,
    baselines: bool = False,
    test_data: str | None = None,
    limit: int | None = None,
    device: str = "auto",
    method: str | None = None,
    machine: Mapping[str, Any] | None = None,
) -> Iterator[Event]:
    """Accuracy of a linear probe on a run's frozen encoder; ends with `Evaluated` named `linear`.

    Arguments and errors as for `knn_eval`.
    """
    trained = open_run(run, device, method)
    settings = _with_data(trained.settings, data, test_data, limit, machine)
    found = open_evaluation(settings.data, settings.run.seed)
    result = linear_of(trained.objective, settings, trained.precision, found, baselines=baselines)
    yield from _conclude(run, trained, found, "linear", result)


def quality(objective: Objective, settings: Settings, resolved: Mapping[str, Any], *, step: int) -> Iterator[Event]:
    """What training's end tells of an objective in memory: kNN with baselines.

    Whatever goes wrong here, such as data without labels, is a warning: the training it follows is done and safe.
    """
    try:
        found = open_evaluation(settings.data, settings.run.seed)
        if len(found.bank) > LARGEST_BANK:
            each = max(LARGEST_BANK // len(found.bank.classes), 1)
            part = open_evaluation(settings.data.model_copy(update={"limit": each}), settings.run.seed)
            found = replace(part, note=f"{part.note}; the first {each:,} images of each class, knn-eval takes all")
        result = knn_of(objective, settings, resolved["precision"], found, baselines=True)
        yield Evaluated(step=step, name="knn", result=result)
    except (SslcliError, MemoryError, RuntimeError) as error:
        ours = convert_exception(error)
        yield Warned(step=step, message=f"No kNN: {ours.message}", hint=ours.hint)


def knn_of(
    objective: Objective,
    settings: Settings,
    precision: str,
    data: Evaluation,
    *,
    k: int = 200,
    temperature: float = 0.1,
    baselines: bool = False,
) -> dict[str, Any]:
    """Weighted kNN accuracy of an objective in memory, as pinned in contracts.md; it is left as it was."""

    def score(bank: Tensor, bank_label: Tensor, query: Tensor, query_label: Tensor) -> Mapping[str, Any]:
        votes = knn(bank, bank_label, query, classes=len(data.queries.classes), k=k, temperature=temperature)
        top1, top5 = accuracy(votes.scores, query_label)
        return {"top1": top1, "top5": top5, "k": votes.k}

    bank, queries = _encode_both(objective, settings, precision, data, baselines)
    results = _score_each(score, bank, queries, next(objective.parameters()).device)
    result = results.pop(ENCODER)
    short = f"k is {result['k']}, not {k}: the bank has no more images" if result["k"] < k else ""
    return {
        **result,
        "temperature": temperature,
        "feature": ENCODER,
        "bank": len(bank.label),
        "queries": len(queries.label),
        "note": _note(data, bank, queries, short),
        "baselines": {name: other["top1"] for name, other in results.items()},
    }


def linear_of(
    objective: Objective, settings: Settings, precision: str, data: Evaluation, *, baselines: bool = False
) -> dict[str, Any]:
    """Accuracy of a linear probe on an objective in memory, as pinned in contracts.md; it is left as it was.

    Raises:
        SslcliError: the backbone changed, which would make the result worthless.
    """

    def score(train: Tensor, train_label: Tensor, test: Tensor, test_label: Tensor) -> Mapping[str, Any]:
        known = len(data.bank.classes)
        fit = linear_probe(train, train_label, classes=known, seed=settings.run.seed)
        with torch.no_grad():  # a class that only the test images have is never answered
            scores = F.pad(fit.probe(test), (0, len(data.queries.classes) - known), value=-torch.inf)
        top1, top5 = accuracy(scores, test_label)
        return {"top1": top1, "top5": top5, "l2": fit.l2, "held_out_top1": fit.held_out_top1}

    before = fingerprint(objective.backbone)
    train, test = _encode_both(objective, settings, precision, data, baselines)
    results = _score_each(score, train, test, next(objective.parameters()).device)
    if fingerprint(objective.backbone) != before:
        raise SslcliError("The backbone changed during its evaluation; please report this.")
    result = results.pop(ENCODER)
    return {
        "top1": result["top1"],
        "top5": result["top5"],
        "protocol": PROTOCOL,
        "train": len(train.label),
        "test": len(test.label),
        "settings": {
            "l2": result["l2"],
            "l2_grid": list(PENALTIES),
            "held_out": HELD_OUT,
            "held_out_top1": result["held_out_top1"],
            "iterations": ITERATIONS,
            "seed": settings.run.seed,
        },
        "note": _note(data, train, test),
        "baselines": {name: other["top1"] for name, other in results.items()},
    }


def _with_data(
    settings: Settings,
    data: str | None,
    test_data: str | None,
    limit: int | None,
    machine: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings with other images in them; a test folder belongs to its data and goes with it."""
    changed: dict[str, Any] = {"download": False, **(machine or {})}
    if data is not None:
        changed |= {"source": data, "test": None, "limit": None}
    if test_data is not None:
        changed["test"] = test_data
    if limit is not None:
        changed["limit"] = limit
    return settings.model_copy(update={"data": settings.data.model_copy(update=changed)})


def _encode_both(
    objective: Objective, settings: Settings, precision: str, data: Evaluation, baselines: bool
) -> tuple[Features, Features]:
    """Rows of the bank and of the queries, by the encoder and, if asked, by the baselines."""
    device = next(objective.parameters()).device
    represents: dict[str, Represent] = {ENCODER: objective.represent}
    networks = [objective]
    if baselines:
        untrained = build_objective(settings, device)
        networks.append(untrained)
        represents |= {PIXELS: pixels, UNTRAINED: untrained.represent}
    with evaluating(*networks):
        bank, queries = (
            encode(represents, source, settings, device=device, precision=precision)
            for source in (data.bank, data.queries)
        )
    if not all(bool(rows.h[ENCODER].isfinite().all()) for rows in (bank, queries)):
        raise DivergedError(
            "The representation is not finite.", "Evaluate an earlier checkpoint: give its file as RUN."
        )
    return bank, queries


def _note(data: Evaluation, bank: Features, queries: Features, *more: str) -> str:
    skipped = bank.skipped + queries.skipped
    left_out = f"{skipped} images could not be read and are left out" if skipped else ""
    return "; ".join(filter(None, (data.note, left_out, *more)))


def _score_each(score: Score, train: Features, test: Features, device: torch.device) -> dict[str, Mapping[str, Any]]:
    train_label, test_label = train.label.to(device), test.label.to(device)
    return {name: score(train.h[name].to(device), train_label, test.h[name].to(device), test_label) for name in train.h}


def _conclude(run: str, trained: Trained, data: Evaluation, name: str, result: dict[str, Any]) -> Iterator[Event]:
    """The result as the last event; a run folder keeps it in `eval/`, one file for each checkpoint and data set."""
    yield from (Warned(step=trained.step, message=note) for note in trained.notes)
    event = Evaluated(step=trained.step, name=name, result={**result, "step": trained.step})
    if Path(run).is_dir():
        about = re.sub(r"[^\w.]+", "-", data.bank.name).strip("-")
        path = Path(run) / "eval" / f"{name}-{Path(trained.checkpoint).stem}-{about}.json"
        facts = {**record(event), "checkpoint": trained.checkpoint, "data": data.bank.name, "test": data.queries.name}
        try:
            path.parent.mkdir(exist_ok=True)
            disk.write_text(path, json.dumps(facts, indent=1, default=dict))
        except (OSError, SslcliError) as error:  # a finished run may well be read-only
            yield Warned(step=trained.step, message=f"The result was not kept: {error}")
    yield event
