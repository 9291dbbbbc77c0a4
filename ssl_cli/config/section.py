"""The base of every settings model: frozen, and strict about names."""

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

_LARGEST_NUMBER = 2**63


class Section(BaseModel):
    """A frozen table of the settings tree that refuses unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _storable(cls, value: Any) -> Any:
        """Refuse what neither a tensor, a file name nor a checkpoint can hold."""
        if isinstance(value, int) and abs(value) >= _LARGEST_NUMBER:
            raise ValueError("the number is too large")
        if isinstance(value, str) and "\0" in value:
            raise ValueError("it holds a zero byte")
        return value
