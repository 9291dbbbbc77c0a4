"""Selective kernels against the paper in plain algebra: the 3x3 convolution, BatchNorm and softmax spelled out."""

from itertools import product

import pytest
import torch
from torch import Tensor

from ssl_cli.nn.batchnorm import Moments, grouped
from ssl_cli.nn.selective_kernel import SelectiveKernel

ROWS, INPUTS, OUTPUTS, SIDE = 5, 3, 4, 7
EPS = 1e-5


def layer(stride: int = 1) -> SelectiveKernel:
    """In float64, with every weight off its starting value."""
    torch.manual_seed(0)
    made = SelectiveKernel(INPUTS, OUTPUTS, stride).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, 0.3, 0.5)
    return made


def images(rows: int = ROWS) -> Tensor:
    return torch.randn(rows, INPUTS, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def oracle_normalised(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """ReLU of BatchNorm, by the statistics of this batch."""
    columns = []
    for c in range(x.shape[1]):
        values = x[:, c]
        mean = values.sum() / values.numel()
        var = ((values - mean) ** 2).sum() / values.numel()
        columns.append((values - mean) / (var + EPS) ** 0.5 * gamma[c] + beta[c])
    y = torch.stack(columns, dim=1)
    return y * (y > 0)


def oracle_3x3(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """(N,C,H,W) by (F,C,3,3), one pixel of zeros around the image."""
    n, channels, height, width = x.shape
    padded = torch.zeros(n, channels, height + 2, width + 2, dtype=x.dtype)
    padded[:, :, 1:-1, 1:-1] = x
    rows = []
    for i in range(0, height, stride):
        row = []
        for j in range(0, width, stride):
            taps = [padded[:, :, i + u, j + v] @ weight[:, :, u, v].T for u, v in product(range(3), range(3))]
            row.append(torch.stack(taps).sum(0))
        rows.append(torch.stack(row, dim=-1))
    return torch.stack(rows, dim=2)


def oracle(x: Tensor, w: dict[str, Tensor], stride: int) -> Tensor:
    """The two paths one after the other, then section 3.1 row by row and channel by channel."""
    half = w["paths.weight"].shape[0] // 2
    paths = []
    for part in (slice(0, half), slice(half, None)):
        path = oracle_3x3(x, w["paths.weight"][part], stride)
        paths.append(oracle_normalised(path, w["bn1.weight"][part], w["bn1.bias"][part]))
    fused = paths[0] + paths[1]
    pooled = fused.sum((2, 3)) / (fused.shape[2] * fused.shape[3])
    z = oracle_normalised(pooled @ w["squeeze.weight"][:, :, 0, 0].T, w["bn2.weight"], w["bn2.bias"])
    logits = z @ w["mix.weight"][:, :, 0, 0].T
    rows = []
    for n in range(len(x)):
        channels = []
        for c in range(half):
            a, b = logits[n, c].exp(), logits[n, half + c].exp()
            channels.append((paths[0][n, c] * a + paths[1][n, c] * b) / (a + b))
        rows.append(torch.stack(channels))
    return torch.stack(rows)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sizes", [(5,), (3, 2)])
def test_equals_the_oracle_in_value_and_gradient(stride: int, sizes: tuple[int, ...]) -> None:
    ours, x, y = layer(stride), images().requires_grad_(), images().requires_grad_()
    weights = {name: p.detach().clone().requires_grad_() for name, p in ours.named_parameters()}
    with grouped(ours, sizes):
        found = ours(x)
    wanted = torch.cat([oracle(part, weights, stride) for part in torch.split(y, list(sizes))])
    assert found.shape == (ROWS, OUTPUTS, -(-SIDE // stride), -(-SIDE // stride))
    torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)
    slope = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    ours_by = torch.autograd.grad((found * slope).sum(), [x, *ours.parameters()])
    theirs_by = torch.autograd.grad((wanted * slope).sum(), [y, *weights.values()])
    for name, a, b in zip(["x", *weights], ours_by, theirs_by, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=0)
        assert b.abs().max() > 1e-3, name  # the comparison says something


def test_each_row_mixes_its_own_paths() -> None:
    ours, x = layer(), images()
    together = ours.eval()(x)
    torch.testing.assert_close(torch.cat([ours(row[None]) for row in x]), together)
    assert (together >= 0).all()


def test_even_weights_give_the_mean_of_the_paths() -> None:
    ours, x = layer(), images()
    torch.nn.init.zeros_(ours.mix.weight)
    one, other = ours.relu(ours.bn1(ours.paths(x))).chunk(2, dim=1)
    torch.testing.assert_close(ours(x), (one + other) / 2)


@pytest.mark.parametrize(("outputs", "narrow"), [(4, 32), (64, 32), (512, 32), (528, 33), (1536, 96)])
def test_width_of_the_squeezed_row(outputs: int, narrow: int) -> None:
    with torch.device("meta"):
        made = SelectiveKernel(8, outputs)
    shapes = {name: tuple(p.shape) for name, p in made.named_parameters()}
    assert shapes == {
        "paths.weight": (2 * outputs, 8, 3, 3),
        "bn1.weight": (2 * outputs,),
        "bn1.bias": (2 * outputs,),
        "squeeze.weight": (narrow, outputs, 1, 1),
        "bn2.weight": (narrow,),
        "bn2.bias": (narrow,),
        "mix.weight": (2 * outputs, narrow, 1, 1),
    }


def test_moments_of_both_norms_are_collected_once() -> None:
    ours, x = layer(), images(6)
    moments = Moments()
    for part in torch.split(x, 3):
        with grouped(ours, (2, 1), moments):  # a group of one row has one value a channel in the squeezed row
            ours(part)
    moments.commit()
    assert int(ours.bn1.num_batches_tracked or 0) == int(ours.bn2.num_batches_tracked or 0) == 1
    seen: list[Tensor] = []
    hook = ours.squeeze.register_forward_hook(lambda module, args, output: seen.append(output.detach()))
    for part in torch.split(x, [2, 1, 2, 1]):
        ours(part)
    hook.remove()
    values = torch.cat(seen)[:, :, 0, 0]
    torch.testing.assert_close(ours.bn2.running_mean, 0.1 * values.mean(0))
    torch.testing.assert_close(ours.bn2.running_var, 0.9 + 0.1 * values.var(0))


def test_channels_last_gives_the_same_and_stays() -> None:
    ours, x = layer(), images()
    wanted = ours(x)
    found = ours.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, wanted)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_autocast_keeps_the_map_in_half_precision(device: str) -> None:
    ours, x = layer().float().to(device), images().float().to(device)
    with torch.autocast(device, torch.bfloat16):
        found = ours(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), ours(x), atol=0.1, rtol=0.1)
