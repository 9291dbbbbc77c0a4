"""Networks are found under the names of other code, and then compute what they computed there."""

import copy
import importlib.util
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_cli.config.tree import ModelSettings
from ssl_cli.nn.backbone import build_backbone
from ssl_cli.nn.resnet import ResNet
from ssl_cli.nn.resnet import resnet18 as our_resnet18
from ssl_cli.weights.file import Content
from ssl_cli.weights.fit import MisfitError, fit, fitting_flags
from ssl_cli.weights.layouts import Located, locate
from tests.selection import slow
from tests.weights.layouts import LAYOUTS, numbered, resnet18, under, with_statistics


def flat(value: Any, name: str = "") -> dict[str, Tensor]:
    if isinstance(value, Tensor):
        return {name: value}
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    return {k: v for key, part in items for k, v in flat(part, f"{name}.{key}" if name else str(key)).items()}


def content(saved: Any) -> Content:
    return Content(flat(saved), frozenset(saved))


def found_in(saved: Any, net: nn.Module) -> Located:
    found = locate(content(saved), net.state_dict())
    assert found is not None
    return found


@pytest.fixture(scope="module")
def home() -> nn.Module:
    return resnet18().double().eval()


@pytest.fixture(scope="module")
def expected(home: nn.Module) -> Tensor:
    net = copy.deepcopy(home)
    net.fc = nn.Identity()
    h: Tensor = net(images())
    return h.detach()


def images() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("layout", [*list(LAYOUTS)[::2], *slow(*list(LAYOUTS)[1::2])])
def test_h_is_that_of_the_network_at_home(home: nn.Module, expected: Tensor, layout: str) -> None:
    kind, save = LAYOUTS[layout]
    ours = build_backbone(ModelSettings(stem="imagenet"), 32)[0].double().eval()
    found = found_in(save(home.state_dict()), ours)
    assert kind in found.kind
    fitted = fit(found, ours.state_dict())
    assert len(fitted.filled) == (20 if layout == "before-0.4.1" else 0)  # counters of BatchNorm
    ours.load_state_dict(fitted.tensors, strict=False)
    torch.testing.assert_close(ours(images()), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
def test_h_is_that_of_timm_s_network() -> None:
    timm: Any = importlib.import_module("timm")
    theirs = with_statistics(timm.create_model("resnet18", pretrained=False, num_classes=0)).double().eval()
    ours = build_backbone(ModelSettings(stem="imagenet"), 32)[0].double().eval()
    ours.load_state_dict(fit(found_in(theirs.state_dict(), ours), ours.state_dict()).tensors)
    torch.testing.assert_close(ours(images()), theirs(images()), atol=1e-12, rtol=1e-12)


def test_a_library_s_own_network_takes_its_weights() -> None:
    from torchvision.models import get_model

    theirs = with_statistics(get_model("mobilenet_v3_small", weights=None)).eval()
    ours = build_backbone(ModelSettings(backbone="torchvision:mobilenet_v3_small"), 32)[0].eval()
    fitted = fit(found_in({"model": theirs.state_dict()}, ours), ours.state_dict())
    assert fitted.left_out == ("classifier.3.weight", "classifier.3.bias")
    ours.load_state_dict(fitted.tensors)
    theirs.get_submodule("classifier").add_module("3", nn.Identity())
    torch.testing.assert_close(ours(images().float()), theirs(images().float()), atol=1e-6, rtol=1e-6)


def test_a_numbered_network_with_a_small_stem() -> None:
    """lightly's ResNetGenerator for CIFAR: no ReLU and no pooling among its children."""
    theirs = with_statistics(our_resnet18(width=0.0625, stem="cifar"))
    names = numbered(theirs.state_dict(), ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"])
    saved = under("backbone.", {name.replace("downsample", "shortcut"): value for name, value in names.items()})
    ours = our_resnet18(width=0.0625, stem="cifar")
    ours.load_state_dict(fit(found_in(saved, ours), ours.state_dict()).tensors)
    x = images().float()
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), atol=1e-6, rtol=1e-6)


def test_of_a_teacher_and_a_student_it_is_the_one_that_was_trained() -> None:
    state = our_resnet18(width=0.0625).state_dict()
    for averaged in ("teacher.", "model_ema.", "momentum_encoder.", "target_network.", "module.encoder_k.", "key."):
        saved = {**under(averaged, state), **under("online_network.backbone.", state)}
        found = locate(content(saved), state)
        assert found is not None
        assert found.prefix == "online_network.backbone.", averaged
        alone = locate(content(under(averaged, state)), state)
        assert alone is not None
        assert alone.prefix == averaged


def test_no_network_is_found_in_other_tensors() -> None:
    net = our_resnet18(width=0.0625)
    assert locate(content({"weight": torch.ones(2), "0.0.weight": torch.ones(2)}), net.state_dict()) is None


def small(**shape: Any) -> ResNet:
    return our_resnet18(**{"width": 0.0625, "stem": "cifar", **shape})


@pytest.mark.parametrize(
    ("other", "sentence", "flags"),
    [
        (dict(width=0.125), "conv1.weight has the shape 8 x 3 x 3 x 3 in it, and 4 x 3 x 3 x 3 in the network",
         "--backbone resnet18 --width 0.125 --set model.stem=cifar"),
        (dict(stem="imagenet"), "conv1.weight has the shape 4 x 3 x 7 x 7",
         "--backbone resnet18 --width 0.0625 --set model.stem=imagenet"),
        (dict(channels=1), "conv1.weight has the shape 4 x 1 x 3 x 3",
         "--backbone resnet18 --width 0.0625 --set model.stem=cifar --set data.channels=1"),
    ],
)  # fmt: skip
def test_another_shape_is_refused_with_what_fits(other: dict[str, Any], sentence: str, flags: str) -> None:
    net = small()
    with pytest.raises(MisfitError) as caught:
        fit(found_in(small(**other).state_dict(), net), net.state_dict())
    assert sentence in str(caught.value)
    assert caught.value.hint == f"It fits {flags}."


def test_a_part_of_this_network_is_called_so() -> None:
    net = small()
    part = {name: tensor for name, tensor in net.state_dict().items() if name != "layer3.0.conv1.weight"}
    with pytest.raises(MisfitError, match=r"it has no layer3\.0\.conv1\.weight") as caught:
        fit(found_in(part, net), net.state_dict())
    assert "not whole" in caught.value.hint


def test_other_depths_are_refused_both_ways() -> None:
    from ssl_cli.nn.resnet import resnet34, resnet50

    shallow, deep = small(), resnet34(width=0.0625, stem="cifar")
    with pytest.raises(MisfitError, match=r"has no layer1\.2\.conv1\.weight, of shape 4 x 4 x 3 x 3 in the network"):
        fit(found_in(shallow.state_dict(), deep), deep.state_dict())
    with pytest.raises(MisfitError, match=r"has layer1\.2\.conv1\.weight.*which the network has not") as caught:
        fit(found_in(deep.state_dict(), shallow), shallow.state_dict())
    assert caught.value.hint.startswith("It fits --backbone resnet34 --width 0.0625")
    sk = resnet50(width=0.0625, stem="imagenet", sk=True)
    assert fitting_flags(sk.state_dict()).endswith("--set model.stem=imagenet --set model.sk=true")


@pytest.mark.parametrize("name", ["wide_resnet50_2", "resnext50_32x4d", "vgg11"])
def test_networks_that_are_none_of_ours_have_no_flags(name: str) -> None:
    from torchvision.models import get_model

    with torch.device("meta"):
        state = get_model(name, weights=None).state_dict()
    assert fitting_flags(state) == ""


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("conv1.weight", torch.full((4, 3, 3, 3), torch.nan), "conv1.weight holds numbers that are not finite"),
        ("bn1.running_var", -torch.ones(4), "bn1.running_var holds a negative variance"),
        ("conv1.weight", torch.ones(4, 3, 3, 3, dtype=torch.complex64), "conv1.weight is complex64"),
        ("conv1.weight", torch.ones(4, 3, 3, 3, dtype=torch.int8), "conv1.weight is int8"),
        ("conv1.weight", torch.ones(4, 3, 3, 3).to_sparse(), "sparse"),
        ("conv1.weight", torch.ones(1).expand(4, 3, 3, 3), "strides"),
    ],
)
def test_weights_that_no_network_can_have_are_refused(name: str, value: Tensor, sentence: str) -> None:
    net = small()
    with pytest.raises(ValueError, match=sentence):
        fit(found_in({**net.state_dict(), name: value}, net), net.state_dict())


def test_half_precision_is_widened() -> None:
    net = small()
    half = {name: value.half() if value.is_floating_point() else value for name, value in net.state_dict().items()}
    fitted = fit(found_in(half, net), net.state_dict())
    assert {value.dtype for value in fitted.tensors.values()} == {torch.float32, torch.int64}
