"""Build a run's parts from its settings: device, objective (a function of settings and seed only) and loader."""

import torch
from torch import Tensor

from ssl_cli import distributed, memory, registry
from ssl_cli.config.tree import Settings
from ssl_cli.data.disk_cache import DiskCache, folder_of
from ssl_cli.data.loader import Loader, cap_for
from ssl_cli.data.positives import positives_of
from ssl_cli.data.source import BatchedSource, Source
from ssl_cli.engine.rows import step_rows
from ssl_cli.errors import CheckpointError, UsageError
from ssl_cli.nn.backbone import build_backbone
from ssl_cli.nn.batchnorm import convert
from ssl_cli.objective import Objective, make_objective, objective_class
from ssl_cli.weights.initial import Initial, read_initial
from ssl_cli.world import world


def resolve_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` is CUDA, else MPS, else the CPU.

    Note:
        A GPU becomes the current CUDA device, and cuDNN picks its fastest kernels by trial.

    Raises:
        UsageError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"There is no device '{name}' here.", "Use --device cpu, or auto.") from error
    return _select(device)


def local_device(name: str) -> torch.device:
    """Return the device called `name`; with several ranks on a machine, the GPU of this rank's local number.

    Raises:
        UsageError: there is no such device here, fewer GPUs than local ranks, or several ranks on MPS.
    """
    device, here = resolve_device(name), world()
    if device.type == "mps" and here.size > 1:
        raise UsageError("Several ranks cannot share a step on MPS.", "Pass --device cpu, or no --devices.")
    if device.type != "cuda" or here.size == 1:
        return device
    if here.local_rank >= torch.cuda.device_count():
        raise UsageError(
            f"There are {here.local_size} ranks here and {torch.cuda.device_count()} GPUs.",
            f"Start {torch.cuda.device_count()} ranks, or pass --device cpu.",
        )
    return _select(torch.device("cuda", here.local_rank))


def _select(device: torch.device) -> torch.device:
    memory.require_threads(torch.get_num_threads() - 1)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # every step has the same shapes
        if device.index is not None:
            torch.cuda.set_device(device)
    return device


def build_objective(
    settings: Settings, device: torch.device, images: int | None = None, initial: Initial | None = None,
    source: Source | None = None,
) -> Objective:  # fmt: skip
    """Return the method's objective on `device`, in channels_last.

    Args:
        settings: settings of the run.
        device: where its weights go.
        images: number of training images; None: without state of that size, which is enough for evaluation.
        initial: its first weights, BatchNorm statistics and momentum encoder's; None: random by the seed.
        source: the training images, whose groups are state where positives are by group; None: not needed.

    Raises:
        CheckpointError: the initial weights are those of another network.
        UsageError: there is no such method, or a user's class is not an Objective or cannot be constructed.
    """
    name = settings.method.name
    kind = objective_class(name)
    torch.manual_seed(settings.run.seed)
    backbone, features = build_backbone(settings.model, settings.data.size, settings.data.channels)
    if initial is not None:
        initial.load_backbone(backbone, settings.model.title)
    classes = (len(settings.data.classes),) if name in registry.TRANSFERS else ()
    objective = convert(make_objective(name, kind, backbone, features, settings.method, *classes))
    assert isinstance(objective, Objective)
    objective.channels = settings.data.channels
    if initial is not None:
        initial.load_projector(objective, name)
    if images is not None:
        objective.prepare(images, settings.run.seed)
    if source is not None and (positives := positives_of(settings.data, source)):
        objective.prepare_groups(positives)
        objective.own_groups = positives.own_groups
    return objective.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def build_untrained(settings: Settings, device: torch.device) -> tuple[Objective | None, str]:
    """Return the objective as the run started, and a note; None where the weights it started from are gone."""
    try:
        objective = build_objective(settings, device, initial=read_initial(settings))
    except CheckpointError as error:
        return None, f"not compared with the network as it started: {error.message.rstrip('.')}"
    start = settings.model.init_from
    return objective, f"untrained is the network as it started, with the weights of {start}" if start else ""


def build_loader(
    settings: Settings,
    objective: Objective,
    source: Source,
    device: torch.device,
    *,
    cache_bytes: int = 0,
    gpu_cache_bytes: int = 0,
) -> Loader:
    """Return the loader of the run's images; on several ranks it reads only the images whose rows this rank runs.

    Args:
        settings: settings of the run.
        objective: its `gradient_views` and `target_views` decide which images this rank reads.
        source: the images.
        device: caches the decoded images where `gpu_cache_bytes` are enough for all of them.
        cache_bytes: RAM that decoded images may take.
        gpu_cache_bytes: GPU memory that decoded images may take; 0: none.

    Raises:
        DataError: fewer images than the batch.
    """
    run, group, views = settings.run, settings.model.bn_group, objective.gradient_views
    world_size, rank = distributed.world_size(), distributed.rank()

    cap, cache = cap_for(settings.data.size), settings.data.cache
    if cache == "disk":
        cache = "auto" if isinstance(source, BatchedSource) else "none"  # those are in memory
        source = source if cache == "auto" else DiskCache(source, folder_of(settings.data.cache_folder), cap)

    def local_rows(step: int) -> Tensor:
        rows = step_rows(views, run.batch, group, run.seed, step, world_size, rank)
        return rows.images_to_read(objective.target_views)

    return Loader(
        source, run.batch, run.seed,
        threads=settings.data.threads, cache=cache, cache_bytes=cache_bytes,
        gpu=device if gpu_cache_bytes else None, gpu_cache_bytes=gpu_cache_bytes, cap=cap,
        local_rows=local_rows if world_size > 1 else None,
        positives=positives_of(settings.data, source), partners=objective.views > 1,
    )  # fmt: skip
