"""Networks of other libraries: what is taken off them, what they are refused for, and that their steps are exact."""

import re
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import SwinTransformer, VisionTransformer, get_model, resnet18

from ssl_cli.engine.gradient import MicroBatched, compute_gradient
from ssl_cli.engine.rows import Shard
from ssl_cli.errors import ResourceError, UsageError
from ssl_cli.nn import library
from ssl_cli.nn.batchnorm import BatchNorm2d, Moments, convert, grouped
from ssl_cli.nn.bn_groups import bn_groups
from ssl_cli.nn.library import accepts, library_backbone
from ssl_cli.nn.precision import autocast

ROWS = 13


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("name", "size", "width"),
    [
        ("resnet18", 32, 512),  # fc
        ("mobilenet_v3_small", 32, 1024),  # classifier of two layers
        pytest.param("efficientnet_b0", 32, 1280, marks=pytest.mark.slow),  # dropout before the classifier
        pytest.param("shufflenet_v2_x0_5", 32, 1024, marks=pytest.mark.slow),
        ("squeezenet1_1", 64, 512),  # a convolution as classifier
        pytest.param("densenet121", 32, 1024, marks=pytest.mark.slow),
        pytest.param("regnet_y_400mf", 32, 440, marks=pytest.mark.slow),
        ("googlenet", 32, 1024),  # auxiliary classifiers
        pytest.param("swin_t", 32, 768, marks=pytest.mark.slow),
        pytest.param("convnext_tiny", 32, 768, marks=pytest.mark.slow),
    ],
)
def test_h_of_a_family(name: str, size: int, width: int) -> None:
    net, features = library_backbone(f"torchvision:{name}", size)
    assert features == width
    assert net.training
    assert not any(len(p) == library.CLASSES for p in net.parameters())  # no classifier is left
    with torch.no_grad():
        h = net(torch.rand(4, 3, size, size))
    assert h.shape == (4, width)
    assert torch.pdist(h / h.norm(dim=1, keepdim=True)).min() > 1e-3  # images differ in h


def test_the_weights_are_the_librarys_own_under_its_names() -> None:
    theirs = resnet18()
    torch.manual_seed(0)
    ours, _ = library_backbone("torchvision:resnet18", 64)
    left_out = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert (left_out.missing_keys, left_out.unexpected_keys) == (["fc.weight", "fc.bias"], [])
    theirs.fc = nn.Identity()
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_dropout_goes_with_the_classifier_and_stays_elsewhere() -> None:
    with torch.device("meta"):
        nets = {
            name: library_backbone(f"torchvision:{name}", 64)[0] for name in ("efficientnet_b0", "googlenet", "vgg11")
        }
    dropouts = {
        name: [layer.p for layer in net.modules() if isinstance(layer, nn.Dropout)] for name, net in nets.items()
    }
    assert dropouts == {"efficientnet_b0": [], "googlenet": [], "vgg11": [0.5]}


def test_a_vision_transformer_is_made_for_the_size() -> None:
    net, width = library_backbone("torchvision:vit_b_16", 32)
    assert width == 768
    assert net.get_parameter("encoder.pos_embedding").shape == (1, 5, 768)
    assert accepts(net, 32)
    assert not accepts(net, 64)


def test_trying_a_size_moves_nothing() -> None:
    net, _ = library_backbone("torchvision:mobilenet_v3_small", 32)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    assert accepts(net, 64)
    assert accepts(convert(net), 96)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("name", "size", "sentence", "hint"),
    [
        ("torchvision:resnet5", 32, "torchvision has no network 'resnet5'", "Did you mean 'torchvision:resnet50'?"),
        ("torchvision:Swin_T", 32, "no network 'Swin_T'", "Did you mean 'torchvision:swin_t'?"),
        ("torchvision:", 32, "no network ''", r"list_models\(\) lists them"),
        ("torchvision", 32, "no network ''", r"list_models\(\) lists them"),
        ("torchvision:fcn_resnet50", 32, "no network 'fcn_resnet50'", "resnet50"),  # a segmentation network
        ("torchvision:vit_b_16", 40, "of 40 pixels: .*patch size", "--image-size 224"),
        ("torchvision:maxvit_t", 32, "of 32 pixels: .*partition size 7", "--image-size 224"),
        ("torchvision:inception_v3", 32, "of 32 pixels: .*([Kk]ernel|[Oo]utput size)", "--image-size 224"),
    ],
)
def test_what_cannot_work_is_refused(name: str, size: int, sentence: str, hint: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        library_backbone(name, size)
    assert re.search(hint, caught.value.hint)
    assert "\n" not in caught.value.message


def test_timm_that_is_not_there_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match="timm:resnet18 needs timm, which is not installed") as caught:
        library_backbone("timm:resnet18", 32)
    assert caught.value.hint == "pip install 'sslcli[timm]'"


def test_a_network_of_timm() -> None:
    timm = pytest.importorskip("timm")
    ours, width = library_backbone("timm:mobilenetv3_small_050", 32)
    assert width == 1024
    theirs = timm.create_model("mobilenetv3_small_050", num_classes=0)
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(convert(ours)(x), theirs(x))  # its BatchNorms end in activations
    assert all(isinstance(layer, BatchNorm2d) for layer in ours.modules() if hasattr(layer, "running_var"))


def test_a_transformer_of_timm_is_made_for_the_size() -> None:
    pytest.importorskip("timm")
    net, width = library_backbone("timm:vit_tiny_patch16_224", 32)
    assert (width, net.get_parameter("pos_embed").shape) == (192, (1, 5, 192))


@pytest.mark.parametrize(
    ("name", "hint"),
    [("resnet18.a1_in1k", "Did you mean 'timm:resnet18'"), ("hf-hub:timm/resnet18", "timm"), ("swin", "timm")],
)
def test_what_timm_has_not_is_refused_and_nothing_is_fetched(name: str, hint: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(UsageError, match="timm has no network") as caught:
        library_backbone(f"timm:{name}", 32)
    assert hint in caught.value.hint


class Odd(nn.Module):
    """Maps instead of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


def test_a_network_without_rows_or_classifier_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_torchvision", lambda word, size, channels: Odd())
    with pytest.raises(UsageError, match=r"Odd gives a tensor \(4, 32, 32\) for an image, not one row"):
        library_backbone("torchvision:odd", 32)
    with pytest.raises(UsageError, match="No classifier was found in Odd"):
        library._remove_classifier(Odd())


def test_out_of_memory_is_not_reported_as_a_wrong_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(word: str, size: int, channels: int) -> nn.Module:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(library, "_torchvision", greedy)
    with pytest.raises(ResourceError):
        library_backbone("torchvision:vit_h_14", 224)


class NormAct(nn.BatchNorm2d):
    """As timm's: a BatchNorm that ends in dropout and an activation."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.PReLU(init=0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))  # type: ignore[no-any-return]


def test_the_activation_inside_a_batchnorm_is_kept() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), NormAct(4), nn.BatchNorm2d(4))
    x = torch.rand(6, 3, 5, 5)
    before, keys = net(x), list(net.state_dict())
    library._replace_norms(net)
    ours = convert(net)
    assert [isinstance(layer, BatchNorm2d) for layer in ours.children()] == [False, True, True]
    assert list(ours.state_dict()) == keys
    moments = Moments()
    with grouped(ours, (6,), moments):
        torch.testing.assert_close(ours(x), before)
    with grouped(ours, (3, 3), moments):
        assert not torch.allclose(ours(x), before)


def test_statistics_of_an_unknown_kind_are_refused() -> None:
    class OddNorm(nn.BatchNorm2d):
        pass

    with pytest.raises(UsageError, match="running statistics of an unknown type: OddNorm"):
        library._replace_norms(nn.Sequential(OddNorm(4)))


def vit() -> nn.Module:
    net: nn.Module = VisionTransformer(
        image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32,
        dropout=0.2, attention_dropout=0.2, num_classes=library.CLASSES,
    )  # fmt: skip
    return net


def swin() -> nn.Module:
    net: nn.Module = SwinTransformer(
        patch_size=[4, 4], embed_dim=8, depths=[2, 2], num_heads=[1, 2], window_size=[2, 2],
        dropout=0.2, attention_dropout=0.2, stochastic_depth_prob=0.5, num_classes=library.CLASSES,
    )  # fmt: skip
    return net


def efficientnet() -> nn.Module:
    return convert(get_model("efficientnet_b0"))


@pytest.mark.parametrize("make", [vit, swin, pytest.param(efficientnet, marks=pytest.mark.slow)])
def test_dropout_and_dropped_paths_are_replayed(make: Callable[[], nn.Module]) -> None:
    """The cached gradient is the direct one although every pass draws; other draws give another gradient."""
    net = make()
    library._remove_classifier(net)
    net = net.double()
    x = torch.rand(ROWS, 3, 16, 16, dtype=torch.float64)

    def gradient(kept: int, seed: int, sparing: bool = False) -> list[Tensor]:
        net.zero_grad()
        groups = bn_groups(ROWS, 1, 4, 0, 0, 1)
        rows = MicroBatched(
            net, lambda rows: net(x[rows]), Shard((groups,)), 4, autocast(torch.device("cpu"), "fp64"), seed, sparing
        )
        loss = lambda z: (nn.functional.normalize(z) @ nn.functional.normalize(z).T).exp().sum()  # noqa: E731
        compute_gradient(rows, loss, Moments(), kept)
        return [p.grad.clone() for p in net.parameters() if p.grad is not None]

    direct, cached, other, sparing = gradient(ROWS, 1), gradient(0, 1), gradient(0, 2), gradient(ROWS, 1, True)
    assert len(direct) == len(list(net.parameters()))
    for a, b, c in zip(direct, cached, sparing, strict=True):
        torch.testing.assert_close(b, a, atol=1e-10 * max(1.0, float(a.abs().max())), rtol=0)
        torch.testing.assert_close(c, a, atol=1e-10 * max(1.0, float(a.abs().max())), rtol=0)
    assert max(float((a - b).abs().max()) for a, b in zip(cached, other, strict=True)) > 1e-3
