"""The weights that a run starts from: a run of ours or a file of other code, fitted to the run's own network."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ssl_cli import checkpoint
from ssl_cli.config.resume import settings_of
from ssl_cli.config.tree import CIFAR_UP_TO, ModelSettings, Settings
from ssl_cli.errors import CheckpointError, UsageError
from ssl_cli.events import Choice
from ssl_cli.names import shown
from ssl_cli.objective import Objective
from ssl_cli.registry import is_library_backbone
from ssl_cli.weights import file as weights_file
from ssl_cli.weights.file import Content
from ssl_cli.weights.fit import Fitted, MisfitError, architecture, fit, shape
from ssl_cli.weights.layouts import ANCHOR, Located, locate
from ssl_cli.weights.pretrained import pretrained_file

BACKBONE, PROJECTOR = "backbone.", "projector."
OWN = {"schema", "settings", "objective", "step"}
"""Keys of our own checkpoints."""


@dataclass(frozen=True)
class Initial:
    """Weights in memory, and where they are from.

    Attributes:
        file: absolute path of the file.
        sha256: of its content.
        content: its tensors.
        saved: the checkpoint, where the file is one of ours.
    """

    file: Path
    sha256: str
    content: Content
    saved: Mapping[str, Any] | None = None

    def load_backbone(self, backbone: nn.Module, title: str) -> None:
        """Load weights and BatchNorm statistics.

        Raises:
            CheckpointError: the file is of another network, or its weights are not finite.
        """
        backbone.load_state_dict(self._fitted(backbone, title)[1].tensors, strict=False)

    def load_projector(self, objective: Objective, method: str) -> None:
        """Load the projection head of a run of the same method, where it fits; then make copies equal to the weights.

        The backbone's copies are equal already, where it was loaded before they were made.
        """
        head = self.projector(objective, method)
        if head is not None:
            objective.get_submodule("projector").load_state_dict(head)
            objective.synchronise()

    def projector(self, objective: Objective, method: str) -> Mapping[str, Tensor] | None:
        """Return the weights of the head of a run of the same method; None: a fresh one is used.

        A method of the user's own may keep copies of its head that are unknown here, so its head is always fresh.
        """
        head = getattr(objective, "projector", None)
        ours = self.saved is not None and self.saved["settings"]["method"]["name"] == method and ":" not in method
        if self.saved is None or not ours or not isinstance(head, nn.Module):
            return None
        found = {k.removeprefix(PROJECTOR): v for k, v in self.saved["objective"].items() if k.startswith(PROJECTOR)}
        expected = head.state_dict()
        same = found.keys() == expected.keys() and all(found[k].shape == expected[k].shape for k in expected)
        return found if found and same else None

    def choice(self, objective: Objective, settings: Settings) -> Choice:
        """Say in the plan from what the run starts: the file, what it is, and what was taken and left out."""
        located, fitted = self._fitted(objective.backbone, settings.model.title)
        taken = len(fitted.tensors)
        statistics = ", BatchNorm statistics too" if any("running_" in name for name in fitted.tensors) else ""
        reason = f"{located.kind}: all {taken:,} tensors of the backbone{statistics}"
        if located.prefix:
            reason += f", under '{shown(located.prefix)}'"
        if fitted.filled:
            reason += f"; {len(fitted.filled):,} counters of BatchNorm start at 0"
        if fitted.left_out:
            reason += f"; left out: {_listed(fitted.left_out)}"
        loaded = self.projector(objective, settings.method.name) is not None
        reason += "; projection head loaded" if loaded else "; projection head new"
        if self.saved is None and "normalize" not in settings.views.order:
            reason += "; the views of this run are not normalised, those of most other code are"
        if settings.model.stem == "imagenet" and settings.data.size <= CIFAR_UP_TO:
            reason += f"; its stem suits images above {CIFAR_UP_TO} pixels: pass a larger --image-size"
        return Choice(name="starts from", value=shown(str(self.file)), reason=reason)

    def _fitted(self, backbone: nn.Module, title: str) -> tuple[Located, Fitted]:
        expected = backbone.state_dict()
        located = self.located(expected)
        if located is None:
            first, tensor = next(iter(self.content.tensors.items()))
            raise CheckpointError(
                f"{self.file} holds no weights of {title}: it starts with {shown(first)}, of shape {shape(tensor)}.",
                "Give a state dict of the same network; --backbone and --width choose the network.",
            )
        try:
            return located, fit(located, expected)
        except MisfitError as error:
            raise CheckpointError(f"{self.file} does not fit {title}: {error}.", error.hint) from error
        except ValueError as error:
            raise CheckpointError(f"{self.file} cannot be started from: {error}.") from error

    def located(self, expected: Iterable[str]) -> Located | None:
        """Find the network with tensors of these names in the file."""
        if self.saved is None:
            return locate(self.content, expected)
        found = {k.removeprefix(BACKBONE): v for k, v in self.saved["objective"].items() if k.startswith(BACKBONE)}
        kind = f"run of {self.saved['settings']['method']['name']}, step {self.saved['step']:,}"
        return Located(kind, "", found, {name: f"{BACKBONE}{name}" for name in found})


def read_initial(settings: Settings) -> Initial | None:
    """Read the weights that a run starts from; None: it starts from random ones.

    Raises:
        UsageError: the library's weights are asked for in addition to a file, or are not here.
        CheckpointError: no such run or file, not one of weights, or another one than the run started from.
    """
    model = settings.model
    if model.pretrained and model.init_sha256 is None:
        if model.init_from is not None:
            raise UsageError("--init-from and --pretrained exclude each other.", "Give one of them.")
        model = model.model_copy(update={"init_from": str(pretrained_file(settings))})
    return None if model.init_from is None else _read(model)


def _read(model: ModelSettings) -> Initial:
    path, digest = checkpoint.reopen(str(model.init_from), model.init_sha256)
    try:
        content = weights_file.read(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        hint = "Give a run folder, or a state dict that torch.save or safetensors wrote."
        raise CheckpointError(f"{path} is no file of weights: {error}.", hint) from error
    if not content.keys >= OWN:
        return Initial(path, digest, content)
    saved = checkpoint.load(path, digest)
    settings_of(saved["settings"])
    return Initial(path, digest, content, saved)


def recorded(settings: Settings, initial: Initial | None) -> Settings:
    """Return the settings with the file that was read and its sha256, by which it is known on a resume.

    Where backbone, width and stem are open, they are those of the file.
    """
    if initial is None:
        return settings
    facts: dict[str, Any] = {"init_from": str(initial.file), "init_sha256": initial.sha256}
    located, run = initial.located([ANCHOR]), settings.run
    found = architecture(located.tensors) if located else {}
    if not is_library_backbone(settings.model.backbone):
        open_ = {key for key in found if f"model.{key}" in run.fit or (key == "stem" and settings.model.stem == "auto")}
        facts |= {key: found[key] for key in open_}
        run = run.model_copy(update={"fit": tuple(key for key in run.fit if key.removeprefix("model.") not in open_)})
    model = settings.model.model_copy(update=facts)
    return settings.model_copy(update={"model": model, "run": run})


def _listed(names: tuple[str, ...]) -> str:
    """List the modules whose tensors were left out, three at most."""
    parts = dict.fromkeys(name.rpartition(".")[0] or name for name in names)
    listed = ", ".join(shown(part, 60) for part in list(parts)[:3])
    more = f" and {len(parts) - 3:,} more" if len(parts) > 3 else ""
    return f"{listed}{more} ({len(names):,} tensors)"
