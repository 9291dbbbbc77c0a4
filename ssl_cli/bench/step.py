"""An optimiser step from views that are there: the run's own against a plain PyTorch loop in float32."""

import copy
import statistics

import torch
from torch import Tensor, nn

from ssl_cli.bench import work
from ssl_cli.bench.advice import PASSES, UPDATE, Option
from ssl_cli.bench.ceilings import MEMORY
from ssl_cli.bench.loss import dense
from ssl_cli.bench.part import Part
from ssl_cli.bench.subject import Subject
from ssl_cli.bench.timing import Arm, alternate
from ssl_cli.bench.work import Work
from ssl_cli.config.tree import CIFAR_UP_TO
from ssl_cli.engine.plan import measure, memory
from ssl_cli.engine.plan.activations import count_activations
from ssl_cli.engine.precision import MEMORY_FORMATS
from ssl_cli.errors import ResourceError, convert_exception
from ssl_cli.objective import Objective
from ssl_cli.optim.build import build_optimiser

PLAIN_IMAGES, PLAIN_LARGE = 256, 64
"""Images of a step of plain code, which keeps all activations in float32; of more than 64 pixels, fewer."""
PASS_SECONDS, ROWS, ROUNDS = 0.25, 256, 3
"""Of a pass that is tried in other arithmetic: its time and rows at most, and how often it is tried."""
ROOM = 0.8
"""Of the free memory, what a setting may be advised to take."""


def step(subject: Subject) -> Part:
    """Images a second."""
    images = len(subject.batch)
    arms = {"ours": Arm(images, subject.step), "gradient": Arm(images, subject.gradient)}
    plain = PlainLoop(subject)
    if plain.fits():
        arms["plain"] = Arm(plain.images, plain.step)
    rates = alternate(arms, subject.device)
    found = rates["ours"].measured(
        "step", "images/s", bounds=_bounds(subject), reference=rates.get("plain"), against="plain PyTorch, float32"
    )
    gradient, whole = 1 / rates["gradient"].median, 1 / rates["ours"].median
    seconds = {PASSES: gradient, UPDATE: max(whole - gradient, 0.0)}
    return Part((found,), seconds, tuple([*_precisions(subject, gradient), *_memory(subject)]))


class PlainLoop:
    """The same network and method in the loop of a tutorial: float32, contiguous, all rows at once, dense loss."""

    def __init__(self, subject: Subject) -> None:
        rows, views = subject.job.resolved.micro_batch, subject.objective.gradient_views
        most = PLAIN_IMAGES if subject.settings.data.size <= CIFAR_UP_TO else PLAIN_LARGE
        self.images = max(min(len(subject.batch), most, rows // views), 2)
        net = plain_batchnorm(copy.deepcopy(subject.objective)).float().to(memory_format=torch.contiguous_format)
        assert isinstance(net, Objective)
        self.net, self.loss = net, dense(net)
        self.views = [view[: self.images].float().contiguous() for view in subject.views.x.chunk(net.views)]
        self.batch = subject.batch.rows(torch.arange(self.images))
        self.optimiser = build_optimiser(net, subject.settings.optim, subject.job.peak)

    def fits(self) -> bool:
        """Whether there is memory for a step."""
        try:
            self.step()
        except Exception as error:
            if not isinstance(convert_exception(error), ResourceError):
                raise
            self.optimiser.zero_grad(set_to_none=True)
            return False
        return True

    def step(self) -> None:
        """Forward, loss, backward, optimiser, the method's state."""
        net = self.net
        with torch.no_grad():
            targets = net.targets(self.views, self.batch) if net.has_targets else None
        z: Tensor = net(torch.cat(self.views[: net.gradient_views]))
        loss = self.loss[1](z, targets) if self.loss else net.loss(z, targets, self.batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        net.after_step(z.detach(), targets, self.batch, 0.0)


def plain_batchnorm(net: nn.Module) -> nn.Module:
    """The network with torch's own BatchNorm in place of ours."""
    for name, child in net.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            kind = nn.BatchNorm2d if isinstance(child, nn.BatchNorm2d) else nn.BatchNorm1d
            plain = kind(child.num_features, child.eps, child.momentum, child.affine)
            if dict(child.named_parameters()).get("bias") is None:
                plain.register_parameter("bias", None)
            plain.load_state_dict(child.state_dict())
            plain.requires_grad_(any(p.requires_grad for p in child.parameters()))
            setattr(net, name, plain.to(next(child.parameters()).device).train(child.training))
        else:
            plain_batchnorm(child)
    return net


def _bounds(subject: Subject) -> dict[str, float]:
    """Images a second if products or bytes alone took time, those of this run's division of the batch."""
    objective, precision = subject.objective, subject.job.resolved.precision
    image = image_work(work.passes(objective, subject.settings.data.size, precision), objective, subject.again)
    ceilings, kind = subject.ceilings, subject.ceilings.step_precision(precision)
    return {f"matrix {kind}": ceilings.matrix(kind) / image.flops, MEMORY: ceilings.memory() / image.bytes}


def image_work(row: work.Passes, objective: Objective, again: float) -> Work:
    """Of an image: its rows with gradient, `again` times more forward, and those of keys."""
    forward = objective.gradient_views * again + objective.key_views
    return row.both.times(objective.gradient_views) + row.forward.times(forward)


def _precisions(subject: Subject, gradient: float) -> list[Option]:
    """Other arithmetic, tried on as many rows as pass in a moment; the objective is left as it was."""
    resolved, objective = subject.job.resolved, subject.objective
    own = (resolved.precision, resolved.memory_format)
    other = {"fp32": "bf16", "bf16": "fp32", "channels_last": "contiguous", "contiguous": "channels_last"}
    arms = {"": own, f"--precision {other[own[0]]}": (other[own[0]], own[1])}
    arms[f"--set hardware.memory_format={other[own[1]]}"] = (own[0], other[own[1]])
    row = gradient / objective.gradient_views
    rows = min(measure.power_of_two(PASS_SECONDS / row), ROWS, resolved.micro_batch, len(subject.views.x))
    times: dict[str, list[float]] = {setting: [] for setting in arms}
    for turn in range(ROUNDS + 1):
        for setting, (precision, layout) in arms.items():
            objective.to(memory_format=MEMORY_FORMATS[layout])
            x = subject.views.x[:rows].float().contiguous(memory_format=MEMORY_FORMATS[layout])
            seconds = measure.pass_seconds(objective, x, precision)
            if turn:  # the first one builds kernels
                times[setting].append(seconds)
    objective.to(memory_format=MEMORY_FORMATS[own[1]])
    now = statistics.median(times.pop(""))
    return [
        Option(setting, PASSES, statistics.median(found) / now, f"measured on passes of {rows} rows")
        for setting, found in times.items()
    ]


def _memory(subject: Subject) -> list[Option]:
    """Room for the graphs of all rows, where some pass twice for want of it."""
    resolved, objective = subject.job.resolved, subject.objective
    if not subject.again or resolved.checkpointing:
        return []
    rows = min(resolved.micro_batch, len(subject.views.x))
    x = subject.views.x[:rows].float()
    both, forward = (
        statistics.median(measure.pass_seconds(objective, x, resolved.precision, backward=way) for _ in range(ROUNDS))
        for way in (True, False)
    )
    whole = subject.asked * objective.gradient_views
    kept = count_activations(objective, subject.settings.data.size, resolved.precision).kept
    need = subject.planned.expected.get("peak_memory", 0) + kept * max(whole - resolved.micro_batch, 0)
    if need > ROOM * (memory.available() + memory.resident()) and subject.device.type != "cuda":
        return []
    if subject.device.type == "cuda" and need > torch.cuda.get_device_properties(subject.device).total_memory:
        return []
    gigabytes = -(-int(need) // 10**9)
    factor = both / (both + subject.again * forward)
    return [Option(f"--memory {gigabytes}GB", PASSES, factor, "no row would pass twice")]
