"""The settings tree: frozen, validated once, at the edge. Names are those of the papers (design.md, section 4)."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SerializeAsAny, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from ssl_cli.config.augment import AugmentSettings
from ssl_cli.config.group_by import valid_group_by
from ssl_cli.config.methods import MethodSettings, of_its_method
from ssl_cli.config.section import LARGEST_NUMBER, Count, Epochs, Factor, Rate, Section
from ssl_cli.config.units import Bytes, Seconds, format_bytes
from ssl_cli.names import shown
from ssl_cli.registry import BACKBONE_LIBRARIES, BACKBONES, TRACKERS, TrackerName, did_you_mean, is_library_backbone

SELECTIVE = ("resnet50", "resnet101", "resnet152")
"""Backbones that can have selective kernels: those of bottleneck blocks."""
SHAPING = ("width", "stem", "sk", "zero_init", "init")
"""Settings that shape our own ResNets; a torchvision or timm network is as its library makes it."""
LEAST_MEMORY = 64 * 10**6
"""Bytes: torch takes more alone; a smaller budget is a unit that was forgotten, or MB in place of GB."""
DEVICE = r"(auto|cpu|cuda|mps|xpu|hpu|npu|mtia|xla)(:\d{1,3})?"
"""PyTorch's names of devices, which may be none of this machine."""
CIFAR_UP_TO = 64
"""Pixels: images up to this side have the CIFAR stem and test transform."""
Fitted = Literal[
    "model.backbone", "model.width", "data.size", "run.batch", "schedule.epochs", "schedule.warmup",
    "augment.crop.scale", "augment.flip.p",
]  # fmt: skip
"""Settings that a plan can choose for the images, the machine and the time."""


def _known_backbone(name: str) -> str:
    if name not in BACKBONES and not is_library_backbone(name):
        words = (*BACKBONES, *(f"{library}:NAME" for library in BACKBONE_LIBRARIES))
        raise ValueError(f"there is no backbone '{shown(name)}'. {did_you_mean(name, words)}")
    return name


class ModelSettings(Section):
    """The backbone f, and which rows share BatchNorm statistics."""

    backbone: Annotated[str, AfterValidator(_known_backbone)] = "resnet18"
    width: float = Field(1.0, ge=1e-3, le=8, description="width multiplier")
    stem: Literal["auto", "cifar", "imagenet"] = Field("auto", description="auto: cifar up to 64 pixels")
    sk: bool = Field(False, description="selective kernels, with ResNet-D's stem and shortcuts (SimCLR v2)")
    zero_init: bool = Field(False, description="last BatchNorm gamma of each block starts at 0")
    init: Literal["kaiming", "default"] = Field(
        "kaiming",
        description="kaiming: fan-out normal as in torchvision; default: PyTorch's own initialisation of convolutions, "
        "as in the official InstDisc and InvaSpread code",
    )
    init_from: str | None = Field(None, description="run folder or file of weights to start from; absent: random ones")
    init_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = Field(
        None, description="of that file, written when the run starts: another file is refused"
    )
    pretrained: bool = Field(False, description="start from the weights that the backbone's library publishes")
    bn_group: Annotated[int, Field(ge=2, le=10**9)] | Literal["global"] = Field(
        512, description="rows per BatchNorm group"
    )

    @model_validator(mode="after")
    def _selective_kernels_need_bottlenecks(self) -> Self:
        if self.sk and self.backbone not in SELECTIVE:
            raise ValueError(f"sk belongs to {', '.join(SELECTIVE)}")
        return self

    @model_validator(mode="after")
    def _library_networks_have_their_own_shape(self) -> Self:
        given = [name for name in SHAPING if getattr(self, name) != type(self).model_fields[name].default]
        if given and is_library_backbone(self.backbone):
            raise ValueError(
                f"{' and '.join(given)} cannot be set for {self.backbone}, only for {', '.join(BACKBONES)}"
            )
        return self

    @property
    def title(self) -> str:
        """The backbone in words, with its width where it has one."""
        return self.backbone if is_library_backbone(self.backbone) else f"{self.backbone}, width {self.width:g}"


def _one_or_several(value: Any) -> Any:
    return (value[0] if len(value) == 1 else value or None) if isinstance(value, list | tuple) else value


def _range(ends: tuple[float, float]) -> tuple[float, float]:
    if not ends[0] < ends[1] or not max(map(abs, ends)) < LARGEST_NUMBER:
        raise ValueError("two numbers, the smaller one first, such as [0, 4095]")
    return ends


class DataSettings(Section):
    """Images: where from, how many, how large."""

    source: Annotated[str | tuple[str, ...] | None, BeforeValidator(_one_or_several)] = Field(
        None,
        description="folder, list, archive, or several, or NAME[:SPLIT] of a torchvision data set; absent: shapes",
    )
    test: str | None = Field(None, description="folder, list or archive of test images")
    folder: str = Field("data", description="where torchvision data sets are found")
    images: int = Field(16384, gt=0, le=10**7, description="training images of the embedded set")
    size: int = Field(224, ge=8, le=4096, description="side of a view in pixels")
    channels: int = Field(
        3, ge=1, le=16, description="3: colour; 1: gray; others from .npy files (H,W,C) or (C,H,W), RGBA, TIFF"
    )
    range: Literal["auto", "per-image"] | Annotated[tuple[float, float], AfterValidator(_range)] = Field(
        "auto",
        description="numbers that become black and white in files of other than 8 bits: [LOW, HIGH]; auto: measured on "
        "64 files for all; per-image: in each",
    )
    depth: Literal["auto", 8, 16] = Field(
        "auto",
        description="bits of a decoded image's numbers: 256 levels from black to white, or 32768 in twice the memory; "
        "auto: 16 where files have more than 8",
    )
    normalize: Literal["recipe", "measured"] = Field(
        "recipe", description="mean and standard deviation of augment.normalize; measured: on 256 of the images"
    )
    group_by: Annotated[str, AfterValidator(valid_group_by)] | None = Field(
        None, description="group of each image by its path: {parent}, {folder}, {stem}, or a regular expression"
    )
    positives: Literal["image", "group"] = Field(
        "image", description="group: second views are of another image of the group, such as a burst or a video"
    )
    limit: Count | None = Field(None, description="first N images of each class, or of an unlabelled set")
    labels: str | None = Field(None, description="labels that training uses: 10%, 4-per-class, or a FILE of paths")
    labels_sha256: str | None = Field(None, description="of the FILE of labels, which does not change during a run")
    unlabelled: bool = Field(False, description="train on the images whose label is not used, too, as unlabelled")
    hold_out: bool = Field(False, description="use no label of the training images that a study measures with")
    classes: tuple[str, ...] = Field((), description="names of the classes, in the order of the classifier's logits")
    on_bad_image: Literal["skip", "fail"] = Field(
        "skip", description="skip: replace up to 10 images, or 5 %, that cannot be read; fail: end at the first"
    )
    threads: int | None = Field(None, gt=0, le=1024, description="decode threads; default: one per processor")
    cache: Literal["auto", "ram", "disk", "none"] = Field(
        "auto", description="keep decoded images: in memory, auto if they fit; or on disk, for later runs too"
    )
    cache_folder: str | None = Field(None, description="where cache=disk keeps them; default: ~/.cache/sslcli/images")
    download: bool = Field(False, description="allow torchvision to download")

    @property
    def places(self) -> tuple[str, ...]:
        """What `source` names, one or several; none is the embedded set."""
        return () if self.source is None else (self.source,) if isinstance(self.source, str) else self.source

    @property
    def folders(self) -> tuple[str, ...]:
        """What `source` and `test` name."""
        return (*self.places, *([self.test] if self.test else []))

    @property
    def reads(self) -> int:
        """Images that are read for each one of a batch."""
        return 2 if self.positives == "group" else 1

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The numbers that become black and white in files of other than 8 bits; None: measured in each image."""
        return None if isinstance(self.range, str) else self.range

    @property
    def bits(self) -> int:
        """Bits of a decoded image's numbers; those of a run that was started with `auto` are recorded as 16, or 8."""
        return 16 if self.depth == 16 else 8


Beta = Annotated[float, Field(ge=0, lt=1)]


class OptimSettings(Section):
    """The optimiser and its learning rate: `lr` as it is, or `base_lr` scaled by `lr_rule` with the batch."""

    name: Literal["lars", "sgd", "adamw"] = "sgd"
    lr: Rate | None = Field(None, description="rate at the end of warm-up, for any batch; default: base_lr by lr_rule")
    base_lr: Rate = 0.03
    lr_rule: Literal["linear", "sqrt", "none"] = Field("linear", description="x batch/256, x sqrt(batch), or as it is")
    max_lr: Rate | None = Field(None, description="the rate that lr_rule gives at most; absent: any")
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(1e-4, ge=0, le=1e6)
    decay_norm_bias: bool = Field(True, description="weight decay also on BatchNorm parameters and biases")
    adapt_norm_bias: bool = Field(False, description="LARS trust ratio also on BatchNorm parameters and biases")
    trust: Factor = Field(0.001, description="LARS coefficient eta")
    betas: tuple[Beta, Beta] = (0.9, 0.999)

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and (self.name != "sgd" or not self.momentum):
            raise ValueError("nesterov belongs to sgd with momentum")
        return self


def _fractions(pair: tuple[float, float]) -> tuple[float, float]:
    if not all(0 < part <= 1 for part in pair):
        raise ValueError("both numbers are fractions, above 0 and at most 1")
    return pair


class ScheduleSettings(Section):
    """The learning rate and the size of views over time."""

    epochs: Epochs = Field(200, description="passes over the images, in part too: 2.5")
    warmup: float = Field(0.0, ge=0, le=10**6, description="epochs of linear warm-up from 0")
    kind: Literal["cosine", "step", "constant"] = "cosine"
    every: Literal["step", "epoch"] = Field(
        "step", description="when the rate moves: each step, or each epoch as in MoCo"
    )
    milestones: tuple[Epochs, ...] = Field(
        (), max_length=10_000, description="epochs after which the step schedule multiplies by gamma"
    )
    gamma: Factor = 0.1
    resolution: Annotated[tuple[float, float], AfterValidator(_fractions)] | None = Field(
        None, description="[0.5, 0.8]: views start at half the size, and grow to all of it in 0.8 of the steps"
    )

    def steps(self, steps_per_epoch: int) -> int:
        """Return the optimiser steps of all epochs, at least one."""
        return max(1, round(self.epochs * steps_per_epoch))


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _each_once(names: tuple[TrackerName, ...]) -> tuple[TrackerName, ...]:
    return tuple(dict.fromkeys(names))


class RunSettings(Section):
    """The run itself: its folder, seed, batch, and how often it logs and saves."""

    out: str | None = Field(None, description="run folder; default: runs/<date-time>-<method>")
    recipe: str | None = Field(None, description="family (own, shapes, cifar, stl10, imagenet) or a TOML file")
    seed: int = Field(0, ge=0, lt=2**31)
    batch: int = Field(256, ge=2, le=2**20, description="images per optimiser step; never changed silently")
    time: Seconds | None = Field(
        None, gt=0, le=10**9, description="end after this time, by the number of epochs; default: by the images"
    )
    max_time: Seconds | None = Field(None, gt=0, le=10**9, description="stop, resumable, after this time")
    fit: tuple[Fitted, ...] = Field(
        (), max_length=100, description="settings that the plan chooses for images, machine and time"
    )
    checkpoint_every: Count | None = Field(None, description="steps between checkpoints; default: once a minute")
    keep: int = Field(3, ge=2, le=10**6, description="checkpoints kept")
    log_every: Count = Field(10, description="steps between log lines")
    evaluate: bool = Field(True, description="kNN at the end, where there are labels")
    monitor: bool = Field(True, description="kNN while training, where there are labels")
    stop_on_collapse: bool = Field(False, description="end with exit code 6 when the representation has collapsed")
    trackers: Annotated[tuple[TrackerName, ...], BeforeValidator(_several), AfterValidator(_each_once)] = Field(
        (), description=f"{', '.join(TRACKERS)}: they show the numbers of metrics.jsonl too"
    )


def _memory(value: Any) -> Any:
    return None if value == "auto" else value


def _enough(count: int | None) -> int | None:
    if count is not None and count < LEAST_MEMORY:
        raise ValueError(f"it should be {format_bytes(LEAST_MEMORY)} at least, write it like 8GB")
    return count


def _device(name: str) -> str:
    if re.fullmatch(DEVICE, name) is None:
        raise ValueError("there is no such device. Known: auto, cpu, cuda, mps, and one of several GPUs as cuda:1")
    return name


class HardwareSettings(Section):
    """The machine: all `auto` unless given."""

    device: Annotated[str, AfterValidator(_device)] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    memory_format: Literal["auto", "channels_last", "contiguous"] = "auto"
    mode: Literal["auto", "direct", "tail-keep", "cached", "checkpointed"] = Field(
        "auto",
        description="activations kept: all, of some micro-batches, none (gradient caching), checkpoints alone",
    )
    micro_batch: Count | None = Field(None, description="rows through the network at once")
    memory: Annotated[Bytes | None, BeforeValidator(_memory), AfterValidator(_enough)] = Field(
        None, le=10**15, description="budget, e.g. 8GB"
    )
    compile: Literal["auto", "on", "off", "graphs"] = Field(
        "auto", description="torch.compile, with CUDA graphs too; auto: by a rule, without a trial"
    )


class Settings(BaseSettings):
    """All of a run's settings.

    `Settings(*sources)` merges sources, the strongest first. No source is read but those given: neither
    `Settings(**tables)` nor `Settings.model_validate(tables)` looks at the environment or at a file.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Annotated[SerializeAsAny[MethodSettings], BeforeValidator(of_its_method)]
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    optim: OptimSettings = OptimSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    run: RunSettings = RunSettings()
    hardware: HardwareSettings = HardwareSettings()

    def __init__(self, *sources: PydanticBaseSettingsSource, **tables: Any) -> None:
        super().__init__(sources=sources, **tables)

    # pydantic's mark of an `__init__` that `model_validate` need not call, which would go through the sources
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources passed to `Settings(*sources, **tables)`, without pydantic's own; the tables come last."""
        assert isinstance(init_settings, InitSettingsSource)
        return (*init_settings.init_kwargs.pop("sources"), init_settings)

    @property
    def views(self) -> AugmentSettings:
        """The augmentation as it is done: normalised as asked, without what images of these channels cannot undergo."""
        augment = self.augment.normalised() if self.data.normalize == "measured" else self.augment
        return augment.suited(self.data.channels)


def leaves(method: type[MethodSettings]) -> dict[str, FieldInfo]:
    """Return every setting that there is for a method, by its dotted key."""
    return dict(_leaves(Settings, method, ""))


def _leaves(model: type[BaseModel], method: type[MethodSettings], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        kind = method if field.annotation is MethodSettings else field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _leaves(kind, method, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field
