"""The base of every settings model: frozen, and strict about names."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen part of the settings tree that refuses names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
