"""The settings of each method; recipes give the values. Names are those of the papers."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from ssl_cli.config.section import Dimensions, Factor, Rows, Section, storable


class MethodSettings(Section):
    """The settings of every method: a temperature and a projector of `head_layers` layers to `head_dim` dimensions."""

    name: str
    temperature: Factor = 0.1
    loss_scale: Factor = Field(
        1.0, description="factor of the loss; 2: the sum of both directions, as the official SimCLR code"
    )
    head_layers: int = Field(2, ge=0, le=3, description="0: none (h itself), 1: linear, 2 and 3: with hidden layers")
    head_hidden: Dimensions | None = Field(None, description="width of hidden layers; default: the width of h")
    head_dim: Dimensions = Field(128, description="dimensions of the embedding z")
    head_batchnorm: bool = Field(False, description="BatchNorm after each head layer, as in SimCLR's code")


class SimCLRSettings(MethodSettings):
    """SimCLR, Chen et al. 2020, arXiv 2002.05709."""

    name: Literal["simclr"] = "simclr"


class MoCoSettings(MethodSettings):
    """MoCo, He et al. 2020, arXiv 1911.05722; v2: Chen et al. 2020, arXiv 2003.04297: they differ in their recipes."""

    name: Literal["moco-v1", "moco-v2"] = "moco-v2"
    temperature: Factor = 0.2
    queue: Rows = Field(65536, description="K, keys in the queue; capped at half the number of images")
    ema: float = Field(0.999, ge=0, le=1, description="m, momentum of the key encoder")
    symmetric: bool = Field(False, description="both views serve as query and as key; the mean of both losses")


class SimCLRv2Settings(MethodSettings):
    """SimCLR v2, Chen et al. 2020, arXiv 2006.10029."""

    name: Literal["simclr-v2"] = "simclr-v2"
    head_layers: int = Field(3, ge=0, le=3, description="0: none (h itself), 1: linear, 2 and 3: with hidden layers")
    memory: int = Field(
        0, ge=0, le=2**24, description="rows of the momentum memory, more negatives; 0: none, as in the code"
    )
    memory_keys: Literal["all", "past"] = Field(
        "all", description="with a memory, which negatives are momentum keys: all, or only those of past steps"
    )
    ema: float = Field(0.999, ge=0, le=1, description="of the encoder that fills the memory")


class InstDiscSettings(MethodSettings):
    """InstDisc, Wu et al. 2018, arXiv 1805.01978."""

    name: Literal["instdisc"] = "instdisc"
    temperature: Factor = 0.07
    head_layers: int = Field(1, ge=0, le=3, description="0: none (h itself), 1: linear, 2 and 3: with hidden layers")
    noise: int = Field(4096, ge=0, le=2**16, description="m, noise rows per image in NCE; 0: softmax over the bank")
    bank_momentum: float = Field(
        0.5, ge=0, lt=1, description="weight of a row's old value; 0.5 in the code, 0 in the paper"
    )
    proximal: float = Field(0.0, ge=0, le=1e6, description="lambda of the paper's proximal term, which the code lacks")


class InvaSpreadSettings(MethodSettings):
    """InvaSpread, Ye et al. 2019, arXiv 1904.03436."""

    name: Literal["invaspread"] = "invaspread"
    head_layers: int = Field(1, ge=0, le=3, description="0: none (h itself), 1: linear, 2 and 3: with hidden layers")


class TransferSettings(MethodSettings):
    """What starts from a run: the file, its sha256, and the head of the network that was trained there."""

    run: str = Field("", description="run folder or checkpoint file that it starts from, as given")
    checkpoint: str = Field("", description="the checkpoint's file")
    sha256: str = Field("", description="of the checkpoint")


class FineTuneSettings(TransferSettings):
    """Fine-tuning on labelled images, as SimCLR v2, Chen et al. 2020, arXiv 2006.10029, section 2."""

    name: Literal["finetune"] = "finetune"
    from_layer: int = Field(
        0, ge=0, le=16, description="layer of the head that the classifier reads, after its ReLU; 0: h"
    )
    trains: Literal["head", "backbone"] = Field(
        "head", description="head: its kept layers train, too (the official TF2 code); backbone: they do not (TF1)"
    )
    pretrained: str = Field("", description="method that pretrained the run, whose paper has rules of its own")
    scratch: bool = Field(False, description="start from random weights, to compare with: the run gives its network")


class DistillSettings(TransferSettings):
    """Distillation of a fine-tuned run on unlabelled images, SimCLR v2, arXiv 2006.10029, section 2, equation 2."""

    name: Literal["distill"] = "distill"
    temperature: Factor = 1.0
    alpha: float = Field(1.0, ge=0, le=1, description="weight of the teacher; 1 - alpha is that of the labels")


class CustomMethodSettings(MethodSettings):
    """The settings of a user's own `module:Class`, which receives further names as they are."""

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, Annotated[Any, BeforeValidator(storable)]]


_METHOD_SETTINGS: dict[str, type[MethodSettings]] = {
    "instdisc": InstDiscSettings,
    "invaspread": InvaSpreadSettings,
    "moco-v1": MoCoSettings,
    "moco-v2": MoCoSettings,
    "simclr": SimCLRSettings,
    "simclr-v2": SimCLRv2Settings,
    "finetune": FineTuneSettings,
    "distill": DistillSettings,
}


def method_settings(name: str) -> type[MethodSettings]:
    """Return the settings class of this method; for a user's own, one that accepts any further name."""
    return _METHOD_SETTINGS.get(name, CustomMethodSettings)


def of_its_method(value: Any) -> Any:
    """Validate a table of settings by the class of the method it names; return anything else as it is."""
    if not isinstance(value, dict):
        return value
    return method_settings(str(value.get("name", ""))).model_validate(value)
