"""What each method can be set to; a recipe gives the values. Names are those of the papers (design.md, section 4)."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from ssl_cli.config.section import Section


class MethodSettings(Section):
    """What every method has: a temperature and a projector of `head_layers` layers to `head_dim` dimensions."""

    name: str
    temperature: float = Field(0.1, gt=0)
    head_layers: int = Field(2, ge=0, le=3, description="0: none (h itself), 1: linear, 2 and 3: with hidden layers")
    head_hidden: int | None = Field(None, gt=0, description="width of hidden layers; default: the width of h")
    head_dim: int = Field(128, gt=0, description="dimensions of the embedding z")
    head_batchnorm: bool = Field(False, description="BatchNorm after each head layer, as in SimCLR's code")
    loss_scale: float = Field(
        1.0, gt=0, description="factor of the loss; 2: the sum of both directions, as the official SimCLR code"
    )


class SimCLRSettings(MethodSettings):
    """SimCLR, Chen et al. 2020, arXiv 2002.05709."""

    name: Literal["simclr"] = "simclr"


class MoCoSettings(MethodSettings):
    """MoCo, He et al. 2020, arXiv 1911.05722; v2: Chen et al. 2020, arXiv 2003.04297: they differ in their recipes."""

    name: Literal["moco-v1", "moco-v2"] = "moco-v2"
    temperature: float = Field(0.2, gt=0)
    queue: int = Field(65536, gt=0, description="K, keys in the queue; capped at half the number of images")
    ema: float = Field(0.999, ge=0, le=1, description="m, momentum of the key encoder")
    symmetric: bool = Field(False, description="both views serve as query and as key; the mean of both losses")


class SimCLRv2Settings(MethodSettings):
    """SimCLR v2, Chen et al. 2020, arXiv 2006.10029."""

    name: Literal["simclr-v2"] = "simclr-v2"
    head_layers: int = Field(3, ge=0, le=3, description="0: none (h itself), 1: linear, 2 and 3: with hidden layers")
    memory: int = Field(0, ge=0, description="rows of the momentum memory, more negatives; 0: none, as in the code")
    memory_keys: Literal["all", "past"] = Field(
        "all", description="with a memory, all a row is compared with are momentum keys, or only those of past steps"
    )
    ema: float = Field(0.999, ge=0, le=1, description="of the encoder that fills the memory")


class InstDiscSettings(MethodSettings):
    """InstDisc, Wu et al. 2018, arXiv 1805.01978."""

    name: Literal["instdisc"] = "instdisc"
    temperature: float = Field(0.07, gt=0)
    head_layers: int = Field(1, ge=0, le=3, description="0: none (h itself), 1: linear, 2 and 3: with hidden layers")
    noise: int = Field(4096, ge=0, description="m, noise rows an image is told from by NCE; 0: softmax over the bank")
    bank_momentum: float = Field(0.5, ge=0, lt=1, description="what stays of a row; 0.5 in the code, 0 in the paper")
    proximal: float = Field(0.0, ge=0, description="lambda of the paper's proximal term, which the code lacks")


class InvaSpreadSettings(MethodSettings):
    """InvaSpread, Ye et al. 2019, arXiv 1904.03436."""

    name: Literal["invaspread"] = "invaspread"
    head_layers: int = Field(1, ge=0, le=3, description="0: none (h itself), 1: linear, 2 and 3: with hidden layers")


class CustomMethodSettings(MethodSettings):
    """A user's own `module:Class`; further names are handed to the class as they are."""

    model_config = ConfigDict(extra="allow")


_METHOD_SETTINGS: dict[str, type[MethodSettings]] = {
    "instdisc": InstDiscSettings,
    "invaspread": InvaSpreadSettings,
    "moco-v1": MoCoSettings,
    "moco-v2": MoCoSettings,
    "simclr": SimCLRSettings,
    "simclr-v2": SimCLRv2Settings,
}


def method_settings(name: str) -> type[MethodSettings]:
    """The settings class of this method; a user's own method gets one that takes any further name."""
    return _METHOD_SETTINGS.get(name, CustomMethodSettings)


def of_its_method(value: Any) -> Any:
    """A table of settings as the class that its `name` means; anything else as it is."""
    if not isinstance(value, dict):
        return value
    return method_settings(str(value.get("name", ""))).model_validate(value)
