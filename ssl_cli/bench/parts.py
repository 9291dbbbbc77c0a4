"""The table of what is measured: how each part is built, what bounds it, and its reference in plain code."""

import copy
import math
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2 as tv

from ssl_cli.bench.advice import AUGMENTATION, LOSS, NETWORK, READING, UPDATE, Option
from ssl_cli.bench.machine import Arm
from ssl_cli.bench.run import Run
from ssl_cli.config.augment import AugmentSettings
from ssl_cli.data.decode import decode
from ssl_cli.data.loader import Loader, cap_for
from ssl_cli.losses.nt_xent import nt_xent
from ssl_cli.methods.simclr import SimCLR
from ssl_cli.nn.compile import eager
from ssl_cli.objective import Objective
from ssl_cli.optim.build import build_optimiser
from ssl_cli.transfer.knn import knn
from ssl_cli.world import processors

DENSE, BANK, QUERIES, WIDTH, CLASSES, K, TEMPERATURE = 2**28, 20_000, 1024, 512, 10, 200, 0.1
Times = Mapping[str, float]  # median seconds of one unit of work, by call


class Part(NamedTuple):
    """How a part of a run is measured."""

    unit: str
    calls: dict[str, Arm]  # what the run does, by name; timed in turns
    bounds: dict[str, dict[str, float]]  # rates that each limit of the machine would allow, of the calls to report
    against: str  # what the plain code is
    plain: Arm | None  # the same work in plain code, where there is some
    seconds: Callable[[Times], dict[str, float]] = lambda _: {}  # an image by share of the run, the first call's first
    options: Callable[[Times], list[Option]] = lambda _: []  # settings that would change them


def step(run: Run) -> Part:
    """Build a training step from views that exist; its matrix products and unfused operations bound it."""
    images, precision = len(run.batch), run.resolved.precision
    with eager(), FlopCounterMode(display=False) as flops, Traffic() as traffic:  # type: ignore[no-untyped-call]
        run.gradient()
    kind = "tf32" if run.device.type == "cuda" and precision == "fp32" else precision
    matrix, moved = run.machine.matrix(kind) / flops.get_total_flops(), run.machine.memory() / traffic.bytes
    count = math.ceil(images * run.objective.gradient_views / run.resolved.micro_batch)
    graphs = run.resolved.kept_graphs
    again = 1 if run.resolved.checkpointing else max(count - graphs, 0) / count  # forward passes a row
    return Part(
        "images/s", {"step": Arm(images, run.step), "gradient": Arm(images, run.gradient)},
        {"step": {f"matrix {kind}": images * matrix, "memory": images * moved}},
        "plain PyTorch, float32", Arm(run.few, plain_step(run, run.few)),
        lambda t: {NETWORK: t.get("gradient", t["step"]), UPDATE: max(t["step"] - t.get("gradient", t["step"]), 0.0)},
        lambda _: [("a larger --memory", NETWORK, 3 / (3 + again), "estimate")] if again else [],
    )  # fmt: skip


def plain_step(run: Run, images: int) -> Callable[[], None]:
    """Return a step of a copy of the network in float32, contiguous, all rows at once, with torch's BatchNorm."""
    net = copy.deepcopy(run.objective).to(memory_format=torch.contiguous_format)
    for layer in net.modules():
        for kind in (nn.BatchNorm1d, nn.BatchNorm2d):
            layer.__class__ = kind if isinstance(layer, kind) else layer.__class__
    views = [view[:images].float().contiguous() for view in run.views.x.chunk(net.views)]
    batch, dense = run.batch.rows(torch.arange(images)), dense_loss(net)
    optimiser = build_optimiser(net, run.settings.optim, run.trainer.peak_lr)

    def step() -> None:
        with torch.no_grad():
            targets = net.targets(views, batch) if net.has_targets else None
        z = net(torch.cat(views[: net.gradient_views]))
        optimiser.zero_grad(set_to_none=True)
        (dense(z) if dense else net.loss(z, targets, batch)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        net.after_step(z.detach(), targets, batch, 0.0)

    return step


def augment(run: Run) -> Part:
    """Build the views of a batch; reading an image and writing a view, for each view, bounds it."""
    images, views = run.batch.image, run.objective.views
    moved = sum(image.nbytes for image in images) * views + run.views.x.nbytes
    batch = run.batch if run.device.type == "cuda" else run.batch.select(torch.arange(run.few))
    few = list(images)[: run.few // 4 or 1]
    chain, lacking = torchvision_chain(run.settings.augment, run.settings.data.size)
    return Part(
        "images/s", {"augment": Arm(len(batch), lambda: run.augment(batch))},
        {"augment": {"memory": len(images) * run.machine.memory() / moved}},
        " without ".join(filter(None, ["torchvision v2, image by image", ", ".join(lacking)])),
        Arm(len(few), lambda: [chain(image) for image in few for _ in range(views)]),
        lambda t: {AUGMENTATION: t["augment"]},
    )  # fmt: skip


def torchvision_chain(s: AugmentSettings, size: int) -> tuple[Callable[[Tensor], Tensor], list[str]]:
    """Return torchvision's transform of one view, from uint8 to float32, and the names of operations that it lacks."""
    strength = [s.jitter.strength * getattr(s.jitter, name) for name in ("brightness", "contrast", "saturation", "hue")]
    radius = round(3 * s.blur.sigma[1]) if s.blur.kernel == "full" else max(int(s.blur.kernel * size) // 2, 1)
    floats = tv.ToDtype(torch.float32, scale=True)
    ops = {
        "crop": tv.RandomResizedCrop(size, s.crop.scale, s.crop.ratio, tv.InterpolationMode(s.crop.interpolation)),
        "flip": tv.RandomHorizontalFlip(s.flip.p),
        "jitter": tv.RandomApply([tv.ColorJitter(*strength)], s.jitter.p),
        "gray": tv.RandomGrayscale(s.gray.p),
        "blur": tv.RandomApply([tv.GaussianBlur(2 * radius + 1, s.blur.sigma)], s.blur.p),
        "normalize": tv.Compose([floats, tv.Normalize(s.normalize.mean, s.normalize.std)]),
    }
    return tv.Compose([*(ops[op] for op in s.order if op in ops), floats]), [op for op in s.order if op not in ops]


def loader(run: Run) -> Part:
    """Build reading of the run's images, without and with a cache; decoding alone bounds the reading of files."""
    images, cap, source = run.few, cap_for(run.settings.data.size), run.source
    threads, size = run.settings.data.threads or processors(), run.batch.image[0].nbytes
    paths = [path for index in run.batch.index[:images].tolist() if Path(path := source.path(index)).is_file()]
    data, bound = [Path(path).read_bytes() for path in paths], dict[str, float]()
    if data:
        one = Arm(images, lambda: [decode(file, cap).nbytes for file in data])
        bound["decode"] = min(threads, processors()) * run.machine.best("images/s", {"decode, 1 thread": one})

    def read(cache: Literal["ram", "none"]) -> Arm:
        made = Loader(source, images, run.settings.run.seed, threads=threads, cache=cache, cap=cap)
        return Arm(images, lambda: deque(made.batches(0, 1), maxlen=0))

    def plain(path: str) -> Tensor:
        with Image.open(path) as picture:
            pixels: Tensor = tv.functional.pil_to_tensor(picture.convert("RGB"))
        return tv.functional.resize(pixels, [min(cap, *pixels.shape[1:])])  # type: ignore[no-any-return]

    whole = size * len(source)
    fits, ram = whole <= run.cache_bytes, f"after the first epoch, if there is RAM for {whole / 1e9:.1f} GB of images"
    return Part(
        "images/s", {"loader": read("none"), "cached": read("ram")},
        {"loader": bound, "cached": {"memory": run.machine.memory() / (2 * size)}},
        "Pillow and torchvision, one thread",
        Arm(images, lambda: [plain(path).nbytes for path in paths]) if paths else None,
        lambda t: {READING: t["cached"] if fits and "cached" in t else t["loader"]},  # the first epoch fills the cache
        lambda t: [] if fits else [("--set data.cache=ram", READING, t.get("cached", t["loader"]) / t["loader"], ram)],
    )  # fmt: skip


def loss(run: Run) -> Part:
    """Build the loss and its gradient at the embeddings of a batch; its matrix products bound it."""
    targets, _, z = run.gradient()

    def differentiated(value: Callable[[Tensor], Tensor]) -> Arm:
        x = z.detach().clone().requires_grad_()
        return Arm(len(run.batch), lambda: torch.autograd.grad(value(x), x))

    ours = differentiated(lambda x: run.objective.loss(x, targets, run.batch))
    dense = dense_loss(run.objective) if len(z) ** 2 <= DENSE else None  # 1 GB of similarities
    with FlopCounterMode(display=False) as flops:
        ours.call()
    work = flops.get_total_flops() / len(run.batch)
    return Part(
        "images/s", {"loss": ours}, {"loss": {"matrix fp32": run.machine.matrix("fp32") / work} if work else {}},
        "dense NT-Xent", differentiated(dense) if dense else None, lambda t: {LOSS: t["loss"]},
    )  # fmt: skip


def dense_loss(net: Objective) -> Callable[[Tensor], Tensor] | None:
    """Return SimCLR's loss of z with all similarities in one matrix; None for other methods, whose loss is dense."""
    return (lambda z: nt_xent(z, net.cfg.temperature)) if type(net) is SimCLR else None


def neighbours(run: Run) -> Part:
    """Build a kNN vote in a bank of noise, as large as the training set but at most 20,000 rows of width 512."""
    rows = min(len(run.source), BANK)
    bank, queries = (torch.randn(count, WIDTH, device=run.device) for count in (rows, QUERIES))
    label = torch.arange(rows, device=run.device) % CLASSES
    ours = Arm(QUERIES, lambda: knn(bank, label, queries, classes=CLASSES, k=K, temperature=TEMPERATURE))
    work = {"matrix fp32": run.machine.matrix("fp32") / (2 * WIDTH), "memory": run.machine.memory() / 8}  # of a row
    bounds = {"knn": {name: rate / rows for name, rate in work.items()}}

    def plain() -> Tensor:
        similarity, nearest = (nn.functional.normalize(queries) @ nn.functional.normalize(bank).T).topk(min(K, rows))
        votes = torch.zeros(QUERIES, CLASSES, device=run.device)
        return votes.scatter_add_(1, label[nearest], (similarity / TEMPERATURE).exp())

    return Part("queries/s", {"knn": ours}, bounds, "one matmul, one topk", Arm(QUERIES, plain))


PARTS = {"step": (step, 4), "augment": (augment, 1), "loader": (loader, 2), "loss": (loss, 1), "knn": (neighbours, 1)}
"""What is measured, the most informative first: how to build it, and its portion of the time budget."""


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes that operations read and write: inputs and outputs of each, nothing fused."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count; BatchNorm reads its input twice, once for the statistics."""
        made, name = func(*args, **(kwargs or {})), str(func)
        if not func.is_view and not name.startswith(("aten.empty", "aten.new_empty", "aten.detach", "aten.alias")):
            for leaf in tree_leaves((made, args, kwargs, *(args if "batch_norm" in name else ()))):
                if isinstance(leaf, Tensor):  # an expanded tensor repeats its storage
                    self.bytes += min(leaf.nbytes, leaf.untyped_storage().nbytes())
        return made
