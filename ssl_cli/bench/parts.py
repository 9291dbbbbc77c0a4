"""The table of what is measured: how each part is built, what bounds it, and its reference in plain code."""

import copy
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2 as tv
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from ssl_cli.bench.advice import AUGMENTATION, LOSS, NETWORK, READING, UPDATE, Option
from ssl_cli.bench.machine import Arm
from ssl_cli.bench.run import Run
from ssl_cli.config.augment import AugmentSettings
from ssl_cli.data.decode import decode
from ssl_cli.data.loader import Loader, cap_for
from ssl_cli.data.reader import processors
from ssl_cli.losses.nt_xent import nt_xent
from ssl_cli.methods.simclr import SimCLR
from ssl_cli.optim.build import build_optimiser
from ssl_cli.transfer.knn import knn

DENSE = 2**28
"""Entries of a similarity matrix that plain code may hold: 1 GB."""
BANK, QUERIES, WIDTH, CLASSES, K, TEMPERATURE = 20_000, 1024, 512, 10, 200, 0.1
Times = Mapping[str, float]
"""Median seconds of one unit of work, by call."""


class Part(NamedTuple):
    """How a part of a run is measured."""

    unit: str
    calls: dict[str, Arm]
    """What the run does, by name; timed in turns."""
    bounds: dict[str, dict[str, float]]
    """The rates that each limit of the machine would allow, of the calls that are reported."""
    against: str
    """What the plain code is, where there is some."""
    plain: Arm | None
    """The same work in plain code."""
    seconds: Callable[[Times], dict[str, float]] = lambda _: {}
    """Returns seconds an image by share of the run, the first call's share first."""
    options: Callable[[Times], list[Option]] = lambda _: []
    """Returns settings that would change them."""


def step(run: Run) -> Part:
    """Build a training step from views that exist; its matrix products and unfused operations bound it."""
    images, few, precision = len(run.batch), run.few, run.resolved.precision
    with FlopCounterMode(display=False) as flops, Traffic() as traffic:
        run.gradient()
    kind = "tf32" if run.device.type == "cuda" and precision == "fp32" else precision
    matrix, moved = run.machine.matrix(kind) / flops.get_total_flops(), run.machine.memory() / traffic.bytes
    again = run.recomputed  # a backward pass takes about twice the time of a forward pass
    memory = Option("a larger --memory", NETWORK, 3 / (3 + again), "estimate: no row would be recomputed")
    return Part(
        unit="images/s",
        calls={"step": Arm(images, run.step), "gradient": Arm(images, run.gradient)},
        bounds={"step": {f"matrix {kind}": images * matrix, "memory": images * moved}},
        against="plain PyTorch, float32",
        plain=Arm(few, plain_step(run, few)),
        seconds=lambda t: {NETWORK: t.get("gradient", t["step"]), UPDATE: max(t["step"] - t.get("gradient", 0), 0.0)},
        options=lambda _: [memory] if again else [],
    )


def plain_step(run: Run, images: int) -> Callable[[], None]:
    """Return a step of a copy of the network in float32, contiguous, all rows at once, with torch's BatchNorm."""
    net = copy.deepcopy(run.objective).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for layer in net.modules():
        for kind in (nn.BatchNorm1d, nn.BatchNorm2d):
            layer.__class__ = kind if isinstance(layer, kind) else layer.__class__
    views = [view[:images].float().contiguous() for view in run.views.x.chunk(net.views)]
    batch, dense = run.batch.rows(torch.arange(images)), dense_loss(net)
    optimiser = build_optimiser(net, run.settings.optim, run.job.peak)

    def step() -> None:
        with torch.no_grad():
            targets = net.targets(views, batch) if net.has_targets else None
        z = net(torch.cat(views[: net.gradient_views]))
        optimiser.zero_grad(set_to_none=True)
        (dense(z) if dense else net.loss(z, targets, batch)).backward()
        optimiser.step()
        net.after_step(z.detach(), targets, batch, 0.0)

    return step


def augment(run: Run) -> Part:
    """Build the views of a batch; reading an image and writing a view, for each view, bounds it."""
    images, views = run.batch.image, run.objective.views
    moved = sum(image.nbytes for image in images) * views + run.views.x.nbytes
    batch = run.batch if run.device.type == "cuda" else run.batch.select(torch.arange(run.few))
    few = list(images)[: run.few // 4 or 1]
    chains, lacking = torchvision_chains(run.settings.augment, run.settings.data.size, views)
    return Part(
        unit="images/s",
        calls={"augment": Arm(len(batch), lambda: run.augment(batch))},
        bounds={"augment": {"memory": len(images) * run.machine.memory() / moved}},
        against=" without ".join(filter(None, ["torchvision v2, image by image", ", ".join(lacking)])),
        plain=Arm(len(few), lambda: [[chain(image) for image in few] for chain in chains]),
        seconds=lambda t: {AUGMENTATION: t["augment"]},
    )


OPS: dict[str, Callable[[Any, int], Any]] = {
    "crop": lambda op, size: tv.RandomResizedCrop(size, op.scale, op.ratio, tv.InterpolationMode(op.interpolation)),
    "flip": lambda op, size: tv.RandomHorizontalFlip(op.p),
    "jitter": lambda op, size: tv.RandomApply([tv.ColorJitter(*(op.strength * getattr(op, x) for x in JITTER))], op.p),
    "gray": lambda op, size: tv.RandomGrayscale(op.p),
    "solarize": lambda op, size: tv.RandomSolarize(round(255 * op.threshold), op.p),
    "blur": lambda op, size: tv.RandomApply([tv.GaussianBlur(_odd(op, size), op.sigma)], op.p),
    "normalize": lambda op, size: tv.Compose([tv.ToDtype(torch.float32, scale=True), tv.Normalize(op.mean, op.std)]),
}
"""torchvision's operations for ours, from settings and the side of a view; all but the last on uint8, as is fastest."""
JITTER = ("brightness", "contrast", "saturation", "hue")


def _odd(op: Any, size: int) -> int:
    return 2 * (round(3 * op.sigma[1]) if op.kernel == "full" else max(int(op.kernel * size) // 2, 1)) + 1


def torchvision_chains(settings: AugmentSettings, size: int, views: int) -> tuple[list[tv.Compose], dict[str, None]]:
    """Return a chain from uint8 to float32 for each view, and the names of the operations that it lacks."""
    orders = [settings.order, *[settings.second or settings.order] * (views - 1)]
    last = tv.ToDtype(torch.float32, scale=True)  # no effect after normalize
    chains = [[OPS[name](getattr(settings, name), size) for name in order if name in OPS] for order in orders]
    lacking = dict.fromkeys(name for order in orders for name in order if name not in OPS)
    return [tv.Compose([*chain, last]) for chain in chains], lacking


def loader(run: Run) -> Part:
    """Build reading of the run's images, without and with a cache; decoding alone bounds the reading of files."""
    images, cap, epochs = run.few, cap_for(run.settings.data.size), run.settings.schedule.epochs
    threads, size = run.settings.data.threads or processors(), run.batch.image[0].nbytes
    fits = size * len(run.source) <= run.cache_bytes
    paths = [path for index in run.batch.index[:images].tolist() if Path(path := run.source.path(index)).is_file()]
    data = [Path(path).read_bytes() for path in paths]
    best = run.machine.best
    alone = (
        best("images/s", {"decode, 1 thread": Arm(len(data), lambda: [decode(x, cap) for x in data])}) if data else 0
    )

    def read(count: int, cache: Literal["ram", "none"]) -> Arm:
        made = Loader(run.source, images, run.settings.run.seed, threads=count, cache=cache, cap=cap)
        return Arm(images, lambda: deque(made.batches(0, 1), maxlen=0))

    def average(t: Times) -> float:  # over the epochs, of which the first fills the cache
        return (t["loader"] + (epochs - 1) * t.get("cached", t["loader"])) / epochs

    def options(t: Times) -> list[Option]:
        found = [Option(name, READING, t[name] / t["loader"], "measured") for name in t if name.startswith("--")]
        cached = Option("--set data.cache=ram", READING, average(t) / t["loader"], "if the decoded images fit the RAM")
        return found if fits else [*found, cached]

    def plain() -> None:
        with ThreadPoolExecutor(threads) as pool:
            deque(pool.map(lambda path: plain_read(path, cap), paths), maxlen=0)

    other = {f"--threads {processors()}": read(processors(), "none")} if data and threads != processors() else {}
    return Part(
        unit="images/s",
        calls={"loader": read(threads, "none"), "cached": read(threads, "ram"), **other},
        bounds={
            "loader": {"decode": alone * min(threads, processors())} if data else {},
            "cached": {"memory": run.machine.memory() / (2 * size)},
        },
        against="Pillow and torchvision in threads",
        plain=Arm(len(paths), plain) if data else None,
        seconds=lambda t: {READING: average(t) if fits else t["loader"]},
        options=options,
    )


def plain_read(path: str, cap: int) -> Tensor:
    """Return the pixels of an image file, uint8 `(3,H,W)`, with a short side of at most `cap`."""
    with Image.open(path) as picture:
        pixels: Tensor = pil_to_tensor(picture.convert("RGB"))
    return resize(pixels, [min(cap, *pixels.shape[1:])])  # type: ignore[no-any-return]


def loss(run: Run) -> Part:
    """Build the loss and its gradient at the embeddings of a batch; its matrix products bound it."""
    targets, _, z = run.gradient()

    def differentiated(value: Callable[[Tensor], Tensor]) -> Arm:
        x = z.detach().clone().requires_grad_()
        return Arm(len(run.batch), lambda: torch.autograd.grad(value(x), x))

    ours = differentiated(lambda x: run.objective.loss(x, targets, run.batch))
    with FlopCounterMode(display=False) as flops:
        ours.call()
    work, dense = flops.get_total_flops() / len(run.batch), dense_loss(run.objective)
    return Part(
        unit="images/s",
        calls={"loss": ours},
        bounds={"loss": {"matrix fp32": run.machine.matrix("fp32") / work} if work else {}},
        against="dense NT-Xent",
        plain=differentiated(dense) if dense and len(z) ** 2 <= DENSE else None,
        seconds=lambda t: {LOSS: t["loss"]},
    )


def dense_loss(objective: object) -> Callable[[Tensor], Tensor] | None:
    """Return SimCLR's loss of z with all similarities in one matrix; None for other methods, whose loss is dense."""
    plain = type(objective) is SimCLR
    return (lambda z: nt_xent(z, objective.cfg.temperature)) if isinstance(objective, SimCLR) and plain else None


def neighbours(run: Run) -> Part:
    """Build a kNN vote in a bank of noise, as large as the training set but at most 20,000 rows of width 512."""
    rows = min(len(run.source), BANK)
    bank, queries = (torch.randn(count, WIDTH, device=run.device) for count in (rows, QUERIES))
    label = torch.arange(rows, device=run.device) % CLASSES
    matrix, moved = run.machine.matrix("fp32") / (2 * rows * WIDTH), run.machine.memory() / (8 * rows)
    ours = Arm(QUERIES, lambda: knn(bank, label, queries, classes=CLASSES, k=K, temperature=TEMPERATURE))
    return Part(
        unit="queries/s",
        calls={"knn": ours},
        bounds={"knn": {"matrix fp32": matrix, "memory": moved}},  # a similarity is written, and read to be ranked
        against="one matmul, one topk",
        plain=Arm(QUERIES, lambda: plain_knn(bank, label, queries)),
    )


def plain_knn(bank: Tensor, label: Tensor, queries: Tensor) -> Tensor:
    """Return votes `(Q,classes)` of the k nearest rows, with all similarities in one matrix."""
    similarity, nearest = (normalize(queries, dim=1) @ normalize(bank, dim=1).T).topk(min(K, len(bank)))
    votes = torch.zeros(len(queries), CLASSES, device=bank.device)
    return votes.scatter_add_(1, label[nearest], (similarity / TEMPERATURE).exp())


class Row(NamedTuple):
    """How to build a part, and its portion of the time budget."""

    build: Callable[[Run], Part]
    weight: float


PARTS = {
    "step": Row(step, 4.0),
    "augment": Row(augment, 1.0),
    "loader": Row(loader, 2.0),
    "loss": Row(loss, 1.0),
    "knn": Row(neighbours, 1.0),
}
"""What is measured, the most informative first."""


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes that operations read and write: inputs and outputs of each, nothing fused."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count; BatchNorm reads its input twice, once for the statistics."""
        made, name = func(*args, **(kwargs or {})), str(func)
        if not func.is_view and not name.startswith(("aten.empty", "aten.new_empty", "aten.detach", "aten.alias")):
            self.bytes += _bytes((args, kwargs)) * (2 if "batch_norm" in name else 1) + _bytes(made)
        return made


def _bytes(tree: object) -> int:
    tensors = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
    return sum(min(x.nbytes, x.untyped_storage().nbytes()) for x in tensors)  # an expanded tensor repeats itself
