"""The base class of every settings model: frozen, without unknown names, with values that a file can hold."""

import datetime
import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from ssl_cli.config.toml_file import DEEPEST

LARGEST_NUMBER = 2**63
LONGEST_TEXT = 4096
"""The most characters of a text, the longest path of Linux, and the most entries of a list."""
Count = Annotated[int, Field(gt=0, le=10**9)]
"""Steps, images or rows."""
Rows = Annotated[int, Field(gt=0, le=2**24)]
"""Rows of a matrix in memory, as a queue's."""
Dimensions = Annotated[int, Field(gt=0, le=2**14)]
"""The width of a layer."""
Rate = Annotated[float, Field(gt=0, le=1e12)]
"""A learning rate: one that is far too high diverges, but is finite in float32."""
Factor = Annotated[float, Field(ge=1e-6, le=1e6)]
"""A positive factor or divisor: neither it nor its reciprocal leaves the range of float32."""


def whole(number: float) -> float:
    """Return a number without a fraction as an int, as it is printed and stored then; any other as it is."""
    return int(number) if number == int(number) else number


Epochs = Annotated[int | float, Field(gt=0, le=10**6), AfterValidator(whole)]
"""Epochs, in part too: 2.5 are two, and half of the steps of one."""


class Section(BaseModel):
    """A frozen table of the settings tree that refuses unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _storable(cls, value: Any) -> Any:
        return storable(value)


def storable(value: Any, depth: int = 0) -> Any:
    """Return the value unchanged if a tensor, a file name or `settings.toml` can hold it.

    Raises:
        ValueError: in the value, or in a list or table in it, there is a number that is not finite or not below
            `LARGEST_NUMBER`, a date or time, text that is no file name, more than `LONGEST_TEXT` entries, or nesting
            deeper than `DEEPEST`.
    """
    match value:
        case float() if not math.isfinite(value):
            raise ValueError("it should be a finite number")
        case int() if abs(value) >= LARGEST_NUMBER:
            raise ValueError("the number is too large")
        case datetime.date() | datetime.time():
            raise ValueError("it should be text, a number, a list or a table")
        case str():
            _refuse_text(value)
        case list() | tuple() | dict():
            if depth == DEEPEST:
                raise ValueError("it is nested too deeply")
            if len(value) > LONGEST_TEXT:
                raise ValueError(f"it has more than {LONGEST_TEXT:,} entries")
            for part in value:
                storable(part, depth + 1)
            for part in value.values() if isinstance(value, dict) else ():
                storable(part, depth + 1)
    return value


def _refuse_text(text: str) -> None:
    if "\0" in text:
        raise ValueError("it holds a zero byte")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"it is longer than {LONGEST_TEXT:,} characters")
    if re.search("[\ud800-\udc7f\udd00-\udfff]", text):  # the others stand for bytes of a path
        raise ValueError("it holds half of a character")
