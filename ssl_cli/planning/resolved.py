"""The choices of a plan that a resumed run takes over, as `plan.json` and checkpoints hold them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, TypeAdapter
from pydantic_core import to_jsonable_python

from ssl_cli.config.tree import Fitted, Settings
from ssl_cli.planning.divide import Mode
from ssl_cli.planning.timing import Calibrations, RunSchedule, Timing, whole_steps

EARLIER: Mapping[str, Any] = {
    "memory_format": "channels_last", "kept_graphs": 0, "checkpointing": False, "compile": "off", "gpu_cache_bytes": 0,
}  # fmt: skip
"""Choices of runs from versions that did not record them."""


def calibrations(values: Mapping[str, Any]) -> Calibrations:
    """Return those among the choices of `plan.json` or a checkpoint; earlier versions made one at most."""
    one = values.get("calibrated")
    found: Calibrations = values.get("calibrations", () if one is None else (one,))
    return found


@dataclass(frozen=True)
class Resolved:
    """The choices that a resumed run takes over; see `MicroBatchPlan` and `ImageCache` for those of memory.

    `fingerprint` is that of the images (`data.fingerprint`), empty where they are no files.

    `sized` holds the values of the settings in `run.fit`, `timing` what the number of epochs was counted by, and
    `calibrations` after which steps it was corrected and what it was since; see `RunSchedule`.
    """

    device: Annotated[str, Field(pattern=r"^(cpu|mps|cuda)(:\d+)?$")]
    precision: Annotated[str, Field(pattern="^(fp32|bf16)$")]
    memory_format: Annotated[str, Field(pattern="^(channels_last|contiguous)$")]
    mode: Mode
    micro_batch: PositiveInt
    kept_graphs: NonNegativeInt
    checkpointing: bool
    compile: Annotated[str, Field(pattern="^(on|off|graphs)$")]
    images: PositiveInt
    gpu_cache_bytes: NonNegativeInt = 0
    sized: dict[Fitted, int | float | str | tuple[float, float]] = field(default_factory=dict)
    timing: Timing | None = None
    calibrations: tuple[tuple[PositiveInt, PositiveFloat], ...] = ()
    fingerprint: str = ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Resolved":
        """Read the choices of `plan.json` or a checkpoint, also those of earlier versions.

        Raises:
            ValueError: one is missing, or has a value that no plan has.
        """
        renamed = {"kept": "kept_graphs", "card_bytes": "gpu_cache_bytes"}
        found = {**EARLIER, **{renamed.get(name, name): value for name, value in values.items()}}
        found["calibrations"] = calibrations(values)
        if isinstance(found["compile"], bool):
            found["compile"] = "on" if found["compile"] else "off"
        choices = {each.name: found[each.name] for each in fields(cls) if each.name in found}
        return TypeAdapter(cls).validate_python(choices)

    def as_calibrated(self, settings: Settings) -> Settings:
        """Return the settings with the epochs and the warm-up that the run has since it was calibrated, if it was."""
        steps_per_epoch = max(self.images // settings.run.batch, 1)
        schedule = RunSchedule(settings, steps_per_epoch, None, self.calibrations).schedule
        return settings.model_copy(update={"schedule": schedule})

    def steps(self, settings: Settings) -> int:
        """Return the steps of the whole run, as it was calibrated."""
        return whole_steps(settings, self.images, self.calibrations)

    def as_dict(self) -> dict[str, Any]:
        """Return primitives, for `plan.json` and the checkpoint."""
        primitives: dict[str, Any] = to_jsonable_python(self)
        return primitives
