"""What the recipes must say, or a method is quietly another one (recipes, 11 and 19 to 26, 30)."""

import pytest

from ssl_cli.config.tree import Settings
from tests.config.test_recipe import FOLDER, settings_of

MOCO = [("moco-v1", "imagenet"), ("moco-v1", "cifar"), ("moco-v2", "imagenet"), ("moco-v2", "cifar")]
SIMCLR = [("simclr", "imagenet"), ("simclr", "cifar"), ("simclr-v2", "imagenet"), ("simclr-v2", "cifar")]


def strengths(settings: Settings) -> tuple[float, ...]:
    """Probability of colour jitter; brightness, contrast, saturation and hue as they act."""
    jitter = settings.augment.jitter
    four = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    return (jitter.p, *(round(value * jitter.strength, 6) for value in four))


@pytest.mark.parametrize(("method", "family"), MOCO)
def test_moco_decays_all_weights_and_moves_its_rate_once_an_epoch(method: str, family: str) -> None:
    settings = settings_of(method, family)
    optim = settings.optim
    assert (optim.name, optim.decay_norm_bias, optim.nesterov) == ("sgd", True, False)
    assert (settings.schedule.every, settings.schedule.warmup) == ("epoch", 0)
    assert not settings.method.head_batchnorm
    assert settings.augment.order[-1] == "normalize"
    assert settings.augment.crop.interpolation == "bilinear"
    assert settings.augment.crop.scale == ((0.2, 1.0) if family == "imagenet" else (0.08, 1.0))


@pytest.mark.parametrize(("method", "family"), MOCO)
def test_a_loss_of_both_directions_has_its_rate_beside_it(method: str, family: str) -> None:
    """The colab sums both directions, which at half the weight decay is twice the rate of their mean."""
    text = (FOLDER / f"{method}.{family}.toml").read_text(encoding="utf-8")
    advice = "--set method.symmetric=true --set optim.base_lr=0.06 --set optim.weight_decay=2.5e-4"
    assert (advice in text) == (family == "cifar")
    cited, both = settings_of(method, "cifar"), settings_of(method, "cifar", advice.replace("--set ", "").split())
    assert both.optim.base_lr * both.optim.weight_decay == pytest.approx(cited.optim.base_lr * cited.optim.weight_decay)
    assert both.optim.base_lr == 2 * cited.optim.base_lr


@pytest.mark.parametrize(("method", "family"), SIMCLR)
def test_simclr_decays_matrices_alone_and_moves_its_rate_every_step(method: str, family: str) -> None:
    settings = settings_of(method, family)
    optim = settings.optim
    assert (optim.name, optim.decay_norm_bias, optim.adapt_norm_bias) == ("lars", False, False)
    assert (settings.schedule.kind, settings.schedule.every) == ("cosine", "step")
    assert settings.schedule.warmup >= 10  # the full rate reaches what is excluded
    assert settings.method.temperature == (0.1 if family == "imagenet" else 0.5)
    assert settings.method.head_batchnorm
    assert settings.method.loss_scale == 2  # published rates are of the sum of both directions
    assert "normalize" not in settings.augment.order
    assert (settings.augment.crop.scale, settings.augment.crop.interpolation) == ((0.08, 1.0), "bicubic")


def test_jitter_and_its_place() -> None:
    always, often = (1.0, 0.4, 0.4, 0.4, 0.4), (0.8, 0.4, 0.4, 0.4, 0.1)
    assert strengths(settings_of("moco-v1", "imagenet")) == always
    assert settings_of("moco-v1", "imagenet").augment.order == ("crop", "gray", "jitter", "flip", "normalize")
    assert strengths(settings_of("moco-v2", "imagenet")) == often
    assert settings_of("moco-v2", "imagenet").augment.order == ("crop", "jitter", "gray", "blur", "flip", "normalize")
    assert strengths(settings_of("moco-v2", "cifar")) == often
    for method in ("simclr", "simclr-v2"):
        assert strengths(settings_of(method, "imagenet")) == (0.8, 0.8, 0.8, 0.8, 0.2)
        assert settings_of(method, "imagenet").augment.order == ("crop", "flip", "jitter", "gray", "blur")
        assert strengths(settings_of(method, "cifar")) == (0.8, 0.4, 0.4, 0.4, 0.1)
        assert settings_of(method, "cifar").augment.order == ("crop", "flip", "jitter", "gray")


def test_blur_is_pillow_s_in_moco_and_a_tenth_of_the_side_in_simclr() -> None:
    moco, simclr = (settings_of(method, "imagenet").augment.blur for method in ("moco-v2", "simclr"))
    assert (moco.p, moco.sigma, moco.kernel) == (0.5, (0.1, 2.0), "full")
    assert (simclr.p, simclr.sigma, simclr.kernel) == (0.5, (0.1, 2.0), 0.1)


def test_the_first_methods_start_their_cifar_networks_as_pytorch_does() -> None:
    for method, family in (("instdisc", "cifar"), ("invaspread", "cifar"), ("invaspread", "stl10")):
        assert settings_of(method, family).model.init == "default"
    for method, family in (("instdisc", "imagenet"), ("instdisc", "shapes"), ("invaspread", "shapes"), *MOCO, *SIMCLR):
        assert settings_of(method, family).model.init == "kaiming"


def test_small_batches_take_the_square_root() -> None:
    assert settings_of("simclr-v2", "imagenet").optim.lr_rule == "sqrt"
    assert settings_of("simclr", "imagenet").optim.lr_rule == "linear"


@pytest.mark.parametrize("method", ["instdisc", "invaspread", "moco-v1", "moco-v2", "simclr", "simclr-v2"])
def test_small_images_keep_their_pixels(method: str) -> None:
    assert settings_of(method, "cifar").model.stem == "cifar"
