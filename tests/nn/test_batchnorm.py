"""BatchNorm over groups against torch's own, group by group."""

import pytest
import torch
from torch import nn

from ssl_cli.nn.batchnorm import BatchNorm1d, BatchNorm2d, Moments, convert, grouped


def images(rows: int = 12) -> torch.Tensor:
    return torch.randn(rows, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 + 1


def test_one_group_is_torch() -> None:
    ours, theirs = BatchNorm2d(3).double(), nn.BatchNorm2d(3).double()
    x = images()
    moments = Moments()
    with grouped(ours, (12,), moments):
        torch.testing.assert_close(ours(x), theirs(x))
    moments.commit()
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, atol=1e-12, rtol=0)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_groups_are_separate_batches() -> None:
    layer = BatchNorm2d(3).double()
    x = images()
    with grouped(layer, (5, 4, 3)):
        together = layer(x)
    alone = torch.cat([nn.BatchNorm2d(3).double()(part) for part in torch.split(x, [5, 4, 3])])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("cuts", [(12,), (6, 6), (5, 4, 3)])
def test_running_statistics_are_those_of_the_whole_batch_and_move_once(cuts: tuple[int, ...]) -> None:
    layer, whole = BatchNorm2d(3).double(), nn.BatchNorm2d(3).double()
    x = images()
    moments = Moments()
    for part in torch.split(x, list(cuts)):  # several micro-batches of one group each
        with grouped(layer, (len(part),), moments):
            layer(part)
    assert int(layer.num_batches_tracked or 0) == 0  # the forward pass moves nothing
    moments.commit()
    whole(x)
    torch.testing.assert_close(layer.running_mean, whole.running_mean, atol=1e-12, rtol=0)
    torch.testing.assert_close(layer.running_var, whole.running_var, atol=1e-12, rtol=0)
    assert int(layer.num_batches_tracked or 0) == 1
    moments.commit()  # nothing is left to commit
    assert int(layer.num_batches_tracked or 0) == 1


def test_sizes_must_add_up() -> None:
    layer = BatchNorm2d(3).double()
    with grouped(layer, (5,)), pytest.raises(ValueError, match="do not add up"):
        layer(images())


def test_convert_keeps_weights_statistics_and_mode() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.Sequential(nn.BatchNorm1d(48))).double()
    net(images())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    converted = convert(net)
    assert isinstance(converted[1], BatchNorm2d)  # type: ignore[index]
    assert isinstance(converted[3][0], BatchNorm1d)  # type: ignore[index]
    assert all(torch.equal(before[name], value) for name, value in converted.state_dict().items())
    assert converted[1].training  # type: ignore[index]


def test_each_layer_moves_by_its_own_momentum() -> None:
    pairs = [(BatchNorm2d(3, momentum=m).double(), nn.BatchNorm2d(3, momentum=m).double()) for m in (0.1, 0.9, None)]
    untracked = BatchNorm2d(3, track_running_stats=False).double()
    moments = Moments()
    for x in (images(), images(7)):
        for ours, theirs in pairs:
            with grouped(ours, (len(x),), moments):
                ours(x)
            theirs(x)
        with grouped(untracked, (len(x),), moments):
            untracked(x)
        moments.commit()
    for ours, theirs in pairs:
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value, atol=1e-12, rtol=0)


class Chained(nn.Module):
    """Two layers, of which a pass may take the first alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = BatchNorm2d(3).double(), BatchNorm2d(3).double()


@pytest.mark.parametrize("order", [("first", "both"), ("both", "first"), ("both", "first", "both"), ("second", "both")])
def test_passes_that_share_some_layers_move_each_once(order: tuple[str, ...]) -> None:
    net, x = Chained(), images()
    seen: dict[str, list[torch.Tensor]] = {"first": [], "second": []}
    moments = Moments()
    for number, which in enumerate(order):
        with grouped(net, (6, 6), moments):
            for name in ("first", "second") if which == "both" else (which,):
                seen[name].append(x + number)
                getattr(net, name)(x + number)
    moments.commit()
    for name, parts in seen.items():
        whole = nn.BatchNorm2d(3).double()
        whole(torch.cat(parts))
        for key, value in whole.state_dict().items():
            torch.testing.assert_close(getattr(net, name).state_dict()[key], value, atol=1e-12, rtol=0)
