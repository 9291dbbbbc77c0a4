"""The objective of a method in a training loop of one's own: `ssl_cli.Objective.of(...)` and its `contrast`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssl_cli.config.flags import ARGUMENT
from ssl_cli.errors import UsageError
from ssl_cli.objective import Batch, Objective, make_objective, objective_class


def objective_of(
    method: str, backbone: nn.Module, features: int, *, images: int = 0, seed: int = 0, recipe: str = "own",
    **settings: Any,
) -> Objective:  # fmt: skip
    """Make the objective of a method around a network of your own, to be trained in a loop of your own.

    Args:
        method: `simclr`, `moco-v2` or another, or `file.py:Class`.
        backbone: images `(M,C,H,W)` to h `(M,features)`; a method with a momentum encoder copies it.
        features: width of h.
        images: number of training images; for a method with a memory bank (`instdisc`).
        seed: of the memory bank and of noise rows.
        recipe: family or TOML file whose method settings are used where `settings` has none.
        settings: of the method, such as `temperature=0.2` or `queue=4096`; `sslcli methods NAME` lists them.

    Note:
        Environment variables and `./sslcli.toml` are not read. BatchNorm layers of the backbone are used as they are:
        groups of rows that share statistics, and their shuffling, are the engine's. For one process.

    Raises:
        UsageError: there is no such method or setting, h has no width, or a memory bank without `images`.
    """
    from ssl_cli.config.sources import settle  # late: it takes a while to be imported

    if features < 1:
        raise UsageError(f"features={features} is no width of h.", "Give the number of values of each row.")
    nowhere = Path("/dev/null/none")  # no file of settings is read
    given = {"method": {**settings, "name": method}, "run": {"recipe": recipe, "seed": seed}}
    names = {f"method.{name}": f"{ARGUMENT}{name}" for name in settings}
    names |= {"method.name": f"{ARGUMENT}method", "run.recipe": f"{ARGUMENT}recipe"}
    settled = settle(given, env={}, cwd=nowhere, user_file=nowhere, flag_names=names).settings
    objective = make_objective(method, objective_class(method), backbone, features, settled.method)
    if type(objective).prepare is not Objective.prepare and not images:
        raise UsageError(f"{method} has a row for each training image.", "Pass images=N, their number.")
    if images:
        objective.prepare(images, seed)
    return objective


def contrast(
    objective: Objective, views: Sequence[Tensor], index: Tensor | None = None, epoch: int = 0
) -> tuple[Tensor, Callable[[], None]]:
    """Compute the loss of a batch in a training loop of your own; return it with the update of the method's state.

    Args:
        objective: on the device of the views, in training mode.
        views: `objective.views` augmented copies of the images, each `(N,C,H,W)`.
        index: int64 `(N,)` on the CPU, each image's place in its data set; a memory bank needs it.
        epoch: from 0; in each epoch an image is compared with other noise rows.

    Returns:
        The loss, with gradient, and a function to call after the optimiser's step: it updates queue, memory bank and
        momentum encoder, where the method has them.

    Raises:
        UsageError: fewer views than the method compares, of different shapes, or no index where one is needed.
    """
    count = len(views[0]) if views else 0
    if len(views) < objective.views or any(view.shape != views[0].shape for view in views):
        shapes = ", ".join(str(tuple(view.shape)) for view in views)
        what = f"{objective.views} views of one shape are compared, and these are {shapes or 'none'}."
        raise UsageError(what, f"Pass {objective.views} tensors (N,C,H,W), each a view of all images.")
    if index is None and type(objective).prepare is not Objective.prepare:
        raise UsageError("The memory bank has a row for each image.", "Pass index, each image's place in its data set.")
    places = torch.arange(count) if index is None else index
    batch = Batch([], torch.full((count,), -1), places, epoch)
    with torch.no_grad():
        targets = objective.targets(views, batch) if objective.has_targets else None
    z = objective(torch.cat(list(views[: objective.gradient_views])))
    z = z if z.dtype == torch.float64 else z.float()
    return objective.loss(z, targets, batch), lambda: objective.after_step(z.detach(), targets, batch, 0.0)
