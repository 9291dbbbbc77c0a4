"""From settings to an objective, a function of the settings and the seed alone, and to a loader."""

import torch
from torch import Tensor, nn

from ssl_cli import distributed, registry
from ssl_cli.config.tree import CIFAR_UP_TO, ModelSettings, Settings
from ssl_cli.data.loader import Loader, cap_for
from ssl_cli.data.source import Source
from ssl_cli.engine.plan import budget
from ssl_cli.engine.shards import step_share
from ssl_cli.errors import UsageError
from ssl_cli.nn.batchnorm import convert
from ssl_cli.nn.library import library_backbone
from ssl_cli.objective import Objective


def build_backbone(model: ModelSettings, size: int, channels: int = 3) -> tuple[nn.Module, int]:
    """The backbone and the width F of its representation; the stem suits images of `size` pixels and `channels`.

    Width, stem, selective kernels, zero_init and init are of our own ResNets; others are as their library makes them.

    Raises:
        UsageError: a library's network that does not exist or does not take such images.
    """
    if registry.is_library_backbone(model.backbone):
        return library_backbone(model.backbone, size, channels)
    stem = model.stem if model.stem != "auto" else "cifar" if size <= CIFAR_UP_TO else "imagenet"
    make = registry.load(registry.BACKBONES[model.backbone])
    net = make(width=model.width, stem=stem, zero_init=model.zero_init, sk=model.sk, channels=channels, init=model.init)
    return net, net.features


def build_objective(settings: Settings, device: torch.device, images: int | None = None) -> Objective:
    """The method's objective with fresh weights, on its device, in channels_last.

    With the number of `images` to train on it has all its state; without, only what evaluation asks for.

    Raises:
        UsageError: no such method, or a user's class that is no Objective.
    """
    kind = registry.load(registry.method_path(settings.method.name))
    if not (isinstance(kind, type) and issubclass(kind, Objective)):
        hint = "The README shows what a method of your own looks like."
        raise UsageError(f"'{settings.method.name}' is no subclass of ssl_cli.objective.Objective.", hint)
    torch.manual_seed(settings.run.seed)
    backbone, features = build_backbone(settings.model, settings.data.size, settings.data.channels)
    try:
        objective = convert(kind(backbone, features, settings.method))
    except Exception as error:
        if ":" not in settings.method.name:
            raise
        what = f"{type(error).__name__}: {error}"
        hint = "It is called as Class(backbone, features, cfg); the README shows one."
        raise UsageError(f"'{settings.method.name}' cannot be made: {what}.", hint) from error
    assert isinstance(objective, Objective)
    objective.channels = settings.data.channels
    if images is not None:
        objective.prepare(images, settings.run.seed)
    return objective.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def build_loader(
    settings: Settings, objective: Objective, source: Source, device: torch.device, card_bytes: int = 0
) -> Loader:
    """Create the loader of the run's images, on several ranks of the rows that this rank reads.

    With `card_bytes`, bytes of the GPU `device`, they are cached there if all of them fit.

    Raises:
        DataError: fewer images than the batch.
    """

    def local_rows(step: int) -> Tensor:
        return step_share(settings, objective, step).read(objective.target_views)

    return Loader(
        source, settings.run.batch, settings.run.seed,
        threads=settings.data.threads, cache=settings.data.cache,
        cache_bytes=budget.cache_bytes(settings, objective, device),
        gpu=device if card_bytes else None, gpu_cache_bytes=card_bytes, cap=cap_for(settings.data.size),
        local_rows=local_rows if distributed.world_size() > 1 else None,
    )  # fmt: skip
