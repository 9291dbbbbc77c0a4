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
}


def method_settings(name: str) -> type[MethodSettings]:
    """Return the settings class of this method; for a user's own, one that accepts any further name."""
    return _METHOD_SETTINGS.get(name, CustomMethodSettings)


def of_its_method(value: Any) -> Any:
    """Validate a table of settings by the class of the method it names; return anything else as it is."""
    if not isinstance(value, dict):
        return value
    return method_settings(str(value.get("name", ""))).model_validate(value)
