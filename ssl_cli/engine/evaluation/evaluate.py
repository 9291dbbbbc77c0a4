"""Quality of a representation: weighted kNN and a linear probe on frozen features, and baselines without training."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_cli import disk
from ssl_cli.config.images import with_data
from ssl_cli.config.tree import Settings
from ssl_cli.data.sources import Evaluation, open_evaluation
from ssl_cli.engine.build import build_untrained
from ssl_cli.engine.evaluation.features import Features, Trained, encode, open_run
from ssl_cli.errors import DivergedError, SslcliError
from ssl_cli.events import Evaluated, Event, Warned, record
from ssl_cli.nn.evaluating import evaluating, fingerprint
from ssl_cli.objective import Objective
from ssl_cli.run_path import result_file
from ssl_cli.transfer.knn import accuracy, default_k, k_note, knn
from ssl_cli.transfer.linear import HELD_OUT, ITERATIONS, PENALTIES, PROTOCOL, linear_probe
from ssl_cli.transfer.pixels import pixels
from ssl_cli.verdict import Score, advise, training_of

H, Z = "h", "z"
TRAINED, PIXELS, UNTRAINED = "trained", "pixels", "untrained"


def knn_eval(
    run: str,
    data: str | tuple[str, ...] | None = None,
    *,
    k: int | None = None,
    temperature: float = 0.1,
    feature: str = H,
    baselines: bool = False,
    test_data: str | None = None,
    limit: int | None = None,
    device: str = "auto",
    method: str | None = None,
    machine: Mapping[str, Any] | None = None,
) -> Iterator[Event]:
    """Measure the weighted kNN accuracy of a run's encoder; the last event is `Evaluated` named `knn`.

    Args:
        run: run folder or checkpoint file.
        data: images of the bank; None: the run's own.
        k: neighbours; None: `default_k`.
        temperature: T of the vote exp(s / T).
        feature: `h`, the output of the backbone, or `z`, the projector's output of unit length.
        baselines: measure raw pixels and the same network untrained, too.
        test_data: folder of queries; None: what belongs to `data`.
        limit: use the first so many images of each class.
        device: where to compute.
        method: the run's method again, if it is the user's own.
        machine: `folder` of data sets, decode `threads`, `download`; what is left out is as in the run, but nothing is
            downloaded.

    Raises:
        SslcliError: no such run, data without labels, or features that are not finite.
    """
    trained = open_run(run, device, method, projector=feature == Z)
    settings = with_data(trained.settings, data, test_data, limit, machine)
    images = open_evaluation(settings.data, settings.run.seed)
    result = knn_of(
        trained.objective, settings, trained.precision, images,
        k=k, temperature=temperature, feature=feature, baselines=baselines,
    )  # fmt: skip
    yield from _conclude(run, trained, images, "knn", result)


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
    trained = open_run(run, device, method)
    settings = with_data(trained.settings, data, test_data, limit, machine)
    images = open_evaluation(settings.data, settings.run.seed, labels=labels)
    result = linear_of(trained.objective, settings, trained.precision, images, baselines=baselines)
    result["labels"] = labels
    yield from _conclude(run, trained, images, "linear", result)


def knn_of(
    objective: Objective,
    settings: Settings,
    precision: str,
    data: Evaluation,
    *,
    k: int | None = None,
    temperature: float = 0.1,
    feature: str = H,
    baselines: bool = False,
) -> dict[str, Any]:
    """Measure the weighted kNN accuracy of an objective; arguments as for `knn_eval`, keys by contracts.md."""

    def score(bank: Tensor, bank_label: Tensor, query: Tensor, query_label: Tensor) -> Mapping[str, Any]:
        voting = default_k(bank_label) if k is None else k
        votes = knn(bank, bank_label, query, classes=len(data.queries.classes), k=voting, temperature=temperature)
        top1, top5 = accuracy(votes.ranking, query_label)
        return {"top1": top1, "top5": top5, "k": votes.k}

    bank, queries, start = _encode_both(objective, settings, precision, data, feature, baselines)
    results = _score_each(score, bank, queries, next(objective.parameters()).device)
    result = results.pop(TRAINED)
    return {
        **result,
        "temperature": temperature,
        "feature": feature,
        "bank": len(bank.label),
        "queries": len(queries.label),
        "note": _note(data, bank, queries, k_note(k, result["k"], bank.label), start),
        "baselines": {name: other["top1"] for name, other in results.items()},
        "started": settings.model.init_from is not None,
    }


def linear_of(
    objective: Objective, settings: Settings, precision: str, data: Evaluation, *, baselines: bool = False
) -> dict[str, Any]:
    """Measure the accuracy of a linear probe on h of an objective in memory; keys as pinned in contracts.md.

    Raises:
        SslcliError: the backbone changed during its evaluation, which makes the result worthless.
    """

    def score(train: Tensor, train_label: Tensor, test: Tensor, test_label: Tensor) -> Mapping[str, Any]:
        known = len(data.bank.classes)
        fit = linear_probe(train, train_label, classes=known, seed=settings.run.seed)
        with torch.no_grad():  # a class that only the test images have is never answered
            scores = F.pad(fit.probe(test), (0, len(data.queries.classes) - known), value=-torch.inf)
        top1, top5 = accuracy(scores, test_label)
        found = {"l2": fit.l2, "held_out_top1": fit.held_out_top1, "converged": fit.converged}
        return {"top1": top1, "top5": top5, "fit": found}

    before = fingerprint(objective.backbone)
    train, test, start = _encode_both(objective, settings, precision, data, H, baselines)
    results = _score_each(score, train, test, next(objective.parameters()).device)
    if fingerprint(objective.backbone) != before:
        raise SslcliError("The backbone changed during its evaluation; please report this.")
    result = results.pop(TRAINED)
    fit, grid = result["fit"], {"l2_grid": list(PENALTIES), "held_out": HELD_OUT}
    features = train.h[TRAINED].shape[1]
    short = "" if fit["converged"] else f"the probe had not converged after {ITERATIONS} iterations"
    return {
        "top1": result["top1"],
        "top5": result["top5"],
        "protocol": PROTOCOL,
        "train": len(train.label),
        "test": len(test.label),
        "parameters": sum(p.numel() for p in objective.backbone.parameters()) + len(data.bank.classes) * (features + 1),
        "settings": {**fit, **grid, "iterations": ITERATIONS, "seed": settings.run.seed},
        "note": _note(data, train, test, short, start),
        "baselines": {name: other["top1"] for name, other in results.items()},
        "started": settings.model.init_from is not None,
    }


def _encode_both(
    objective: Objective, settings: Settings, precision: str, data: Evaluation, feature: str, baselines: bool
) -> tuple[Features, Features, str]:
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
    with evaluating(*networks):
        bank, queries = (
            encode(encoders, source, settings, device=device, precision=precision)
            for source in (data.bank, data.queries)
        )
    if not all(bool(rows.h[TRAINED].isfinite().all()) for rows in (bank, queries)):
        hint = "Evaluate an earlier checkpoint: give its file as RUN."
        raise DivergedError("The representation is not finite.", hint)
    return bank, queries, note


def _score_each(
    score: Callable[..., Mapping[str, Any]], train: Features, test: Features, device: torch.device
) -> dict[str, Mapping[str, Any]]:
    """Call `score` with the rows and labels of train and test, for each encoder."""
    train_label, test_label = train.label.to(device), test.label.to(device)
    return {name: score(train.h[name].to(device), train_label, test.h[name].to(device), test_label) for name in train.h}


def _note(data: Evaluation, bank: Features, queries: Features, *more: str) -> str:
    skipped = bank.skipped + queries.skipped
    left_out = f"{skipped} images could not be read and are left out" if skipped else ""
    return "; ".join(filter(None, (data.note, left_out, *more)))


def _conclude(run: str, trained: Trained, data: Evaluation, name: str, result: dict[str, Any]) -> Iterator[Event]:
    """Yield the run's notes, then the result; write it to the run folder's `eval/`, a file for each setting."""
    asked = result.get("queries") or result.get("test") or 0
    score = Score(f"{name} top-1".replace("knn", "kNN"), result["top1"], asked, result["baselines"])
    folder, lines = Path(run), list[bytes]()
    with contextlib.suppress(OSError):
        lines = (folder / "metrics.jsonl").read_bytes().splitlines()
    where = run if folder.is_dir() else ""
    training = training_of(trained.settings, trained.step, trained.steps, where, lines)
    result["advice"] = advise(training, score).as_dict() if result["baselines"] else None
    settings, sets = trained.settings.data, (data.bank, data.queries)
    images = (*(part.name for part in sets), *map(len, sets), settings.test, settings.limit, trained.settings.run.seed)
    labels = (result["labels"],) if result.get("labels") else ()
    words = [str(result["feature"]), f"k{result['k']}", f"T{result['temperature']:g}"] if name == "knn" else []
    words += ["baselines"] if result["baselines"] else []
    file = result_file(name, Path(trained.checkpoint).stem, (*images, *labels), words)
    facts = {"data": data.bank.name, "test": data.queries.name}
    yield from conclude(run, trained, name, result, folder / "eval" / file, newest=f"{name}.json", **facts)


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
