"""Write a run's weights for torchvision, timm or any reader of safetensors, or its network as a PyTorch program."""

import importlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssl_cli import packages
from ssl_cli.config.tree import Settings
from ssl_cli.engine.evaluation.features import open_run
from ssl_cli.errors import CheckpointError, UsageError
from ssl_cli.events import Event
from ssl_cli.exports.record import finish, origin, preprocessing_of
from ssl_cli.exports.usage import EVAL, torch_usage
from ssl_cli.formats.agreement import agreement
from ssl_cli.formats.description import as_text, describe_preprocessing
from ssl_cli.formats.request import check_output
from ssl_cli.formats.safetensors import header
from ssl_cli.names import shown
from ssl_cli.nn.backbone import stem_of
from ssl_cli.nn.evaluating import fingerprint
from ssl_cli.nn.library import library_backbone
from ssl_cli.registry import is_library_backbone
from ssl_cli.transfer.finetune import plain_network

HINT = "--to safetensors or pt2, and ONNX, can hold it."
LOAD = "net.load_state_dict(torch.load('FILE'))"
RGB = 3
Facts = Mapping[str, Any]
Prefixed = Mapping[str, Tensor]


def export_weights(
    run: str, output: Path, form: str, *, classifier: bool = False, method: str | None = None
) -> Iterator[Event]:
    """Write a run's encoder, or its classifier, in another format than ONNX; the last event is `Evaluated`, `export`.

    - `safetensors`: the state dict, with torchvision's names for our own ResNets; in its metadata what it is.
    - `torchvision`, `timm`: a state dict, written by torch.save, that the library's own network of that name loads.
    - `pt2`: the network as a program, images `(N,C,S,S)` to h or logits with a free N, for `torch.export.load`.

    `output` is replaced only after what was written gave the run's own outputs, where its library is installed.

    Args:
        run: run folder or checkpoint file.
        output: the file to write.
        form: one of those above.
        classifier: write a fine-tuned or distilled run whole, images to logits.
        method: the run's method again, if it is the user's own.

    Raises:
        CheckpointError: no such run, or what was written computes something else.
        UsageError: the library has no such network.
        ResourceError: `output` cannot be written.
    """
    check_output(output, form)
    trained = open_run(run, "cpu", method, projector=classifier)
    settings = trained.settings
    whole = (plain_network(trained.objective, run) if classifier else trained.objective.backbone).eval()
    state = _state(whole, classifier)
    facts = {**origin(trained), "weights_sha256": fingerprint(whole)}
    facts |= {"classes": list(settings.data.classes)} if classifier else {}
    x = torch.rand(3, settings.data.channels, settings.data.size, settings.data.size)
    with torch.no_grad():
        wanted = whole(x)
    write = {"safetensors": _safetensors, "torchvision": _torchvision, "timm": _timm, "pt2": _program}[form]
    made = write(settings, whole, state, facts, x)
    error = 0.0
    if made.outputs is not None:
        error = agreement([wanted], [made.outputs], "What was written", "Nothing was written.").max_error
    what = f"logits of {wanted.shape[1]} classes" if classifier else f"h of {wanted.shape[1]} dimensions"
    imports, load = ([line.replace("FILE", output.name) for line in lines] for lines in (made.imports, made.load))
    result = {
        "format": form, **facts, "load": "; ".join(load), "checked": made.checked, "max_error": error, "output": what,
        "input": f"float32 (batch, {x.shape[1]}, {x.shape[2]}, {x.shape[3]}), by the test transform",
    }  # fmt: skip
    fit = preprocessing_of(settings)
    yield from finish(
        run, trained, output, made.data, result, usage=torch_usage(load, imports, fit),
        preprocessing=describe_preprocessing(fit, in_graph=False), record=f"{output.name}.json",
    )  # fmt: skip


@dataclass(frozen=True)
class Artifact:
    """A file, and how it is used.

    Attributes:
        data: its content.
        load: lines of Python that make `net` of FILE.
        imports: what they import, besides torch.
        checked: what it was compared with.
        outputs: what that gave; None: nothing to compare.
    """

    data: bytes
    load: Sequence[str]
    imports: Sequence[str]
    checked: str
    outputs: Tensor | None


def _state(whole: nn.Module, classifier: bool) -> dict[str, Tensor]:
    """Return the state dict; of a classifier the layers of the head under `projector.`, and the last under `fc.`."""
    state = whole.state_dict()
    parts = {"0": "", "1": "projector.", "2": "fc."} if classifier else {}
    named = {}
    for name, value in state.items():
        first, _, rest = name.partition(".")
        named[parts[first] + rest if classifier else name] = value.detach().clone().contiguous()
    return named


def _safetensors(settings: Settings, whole: nn.Module, state: Prefixed, facts: Facts, x: Tensor) -> Artifact:
    arrays = {name: value.numpy() for name, value in state.items()}
    about = {name: (array.dtype.name, array.shape, array.nbytes) for name, array in arrays.items()}
    words = {f"sslcli.{key}": as_text(value) for key, value in facts.items()}
    data = header(about, words) + b"".join(array.tobytes() for array in arrays.values())
    imports, load = _own_network(settings, state)
    opened = "safetensors.torch.load_file('FILE')"
    load = [*load, f"net.load_state_dict({opened})", EVAL] if load else [f"weights = {opened}"]
    return Artifact(data, load, [*imports, "import safetensors.torch"], "the state dict, byte for byte", None)


def _own_network(settings: Settings, state: Prefixed) -> tuple[list[str], list[str]]:
    """Return lines of Python, imports first, that make the network of a state dict: torchvision's if that has it.

    There is none for a classifier on a network that torchvision has not.
    """
    model, data = settings.model, settings.data
    if is_library_backbone(model.backbone):
        make = f"net = library_backbone('{model.backbone}', {data.size}, {data.channels})[0]"
        return (["from ssl_cli.nn.library import library_backbone"], [make]) if "fc.weight" not in state else ([], [])
    try:
        return _torchvision_network(*_name_in("torchvision", settings, state))
    except UsageError:
        form = f"width={model.width:g}, stem='{stem_of(model, data.size)}', sk={model.sk}, channels={data.channels}"
        own = [f"from ssl_cli.nn.resnet import {model.backbone}"], [f"net = {model.backbone}({form})"]
        return own if "fc.weight" not in state else ([], [])


def _torchvision_network(name: str, classes: int) -> tuple[list[str], list[str]]:
    if classes:
        return ["import torchvision"], [f"net = torchvision.models.{name}(num_classes={classes})"]
    return ["import torchvision"], [f"net = torchvision.models.{name}()", "net.fc = torch.nn.Identity()"]


def _torchvision(settings: Settings, whole: nn.Module, state: Prefixed, facts: Facts, x: Tensor) -> Artifact:
    from torchvision import models

    name, classes = _name_in("torchvision", settings, state)
    if is_library_backbone(settings.model.backbone):
        home, _ = library_backbone(settings.model.backbone, settings.data.size, settings.data.channels)
        imports, load = _own_network(settings, state)
        what = f"torchvision's {name} without its classifier"
    else:
        home = models.get_model(name, weights=None, num_classes=classes or 1)
        imports, load = _torchvision_network(name, classes)
        what = f"torchvision's {name}"
        if not classes:
            home.fc = nn.Identity()
    load = [*load, LOAD, EVAL]
    return Artifact(_saved(state), load, imports, what, _outputs(home, state, x, what))


def _timm(settings: Settings, whole: nn.Module, state: Prefixed, facts: Facts, x: Tensor) -> Artifact:
    name, classes = _name_in("timm", settings, state)
    form: dict[str, Any] = {"num_classes": classes}
    if settings.data.channels != RGB:
        form["in_chans"] = settings.data.channels
    what, home = f"timm's {name}", None
    if packages.is_installed("timm"):
        timm = importlib.import_module("timm")
        for more in ({}, {"img_size": settings.data.size}):  # which a network of any size refuses
            home = timm.create_model(name, pretrained=False, **form, **more)
            if all(value.shape == state[key].shape for key, value in home.state_dict().items() if key in state):
                form |= more
                break
    arguments = ", ".join(f"{key}={value}" for key, value in form.items())
    load = [f"net = timm.create_model('{name}', {arguments})", LOAD, EVAL]
    if home is None:
        return Artifact(_saved(state), load, ["import timm"], "nothing, as timm is not installed", None)
    return Artifact(_saved(state), load, ["import timm"], what, _outputs(home, state, x, what))


def _program(settings: Settings, whole: nn.Module, state: Prefixed, facts: Facts, x: Tensor) -> Artifact:
    """Write the network as `torch.export` captures it, without the paths of this machine in its stack traces."""
    file = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            captured = torch.export.export(whole, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
            for node in captured.graph.nodes:
                node.meta.pop("stack_trace", None)
            torch.export.save(captured, file)
            found = torch.export.load(io.BytesIO(file.getvalue())).module()(x)
    except Exception as error:  # it raises whatever the unsupported construct happens to break
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"torch.export cannot write the network: {type(error).__name__}: {reason}") from error
    load = ["net = torch.export.load('FILE').module()"]
    return Artifact(file.getvalue(), load, [], "the program, loaded again", found)


def _name_in(library: str, settings: Settings, state: Prefixed) -> tuple[str, int]:
    """Return the library's name of the network, and how many classes it has; 0 without a classifier.

    Raises:
        UsageError: the library has no such network.
    """
    model = settings.model
    classes = len(state["fc.weight"]) if "fc.weight" in state else 0
    if is_library_backbone(model.backbone):
        home, _, name = model.backbone.partition(":")
        if home != library:
            raise UsageError(f"{model.backbone} is no network of {library}.", HINT)
        if classes:
            raise UsageError(f"The classifier of {model.backbone} has a place of its own there.", HINT)
        return name, 0
    odd = {
        f"width {model.width:g}": model.width != 1,
        "a stem for small images": stem_of(model, settings.data.size) == "cifar",
        "selective kernels": model.sk,
        f"{settings.data.channels} channels": settings.data.channels != 3,
        "layers between h and its classifier": any(name.startswith("projector.") for name in state),
    }
    if words := [word for word, is_odd in odd.items() if is_odd]:
        raise UsageError(f"{library} has no {model.backbone} with {shown(words[0])}.", HINT)
    return model.backbone, classes


def _outputs(home: nn.Module, state: Prefixed, x: Tensor, name: str) -> Tensor:
    """Load the weights into the library's own network, all of them, and return its outputs.

    Raises:
        CheckpointError: they do not fit.
    """
    try:
        home.load_state_dict(dict(state))
    except RuntimeError as error:
        raise CheckpointError(f"The weights do not fit {name}.", str(error).replace("\n", " ")[:300]) from error
    run: Callable[[Tensor], Tensor] = home.eval()
    with torch.no_grad():
        return run(x)


def _saved(state: Prefixed) -> bytes:
    file = io.BytesIO()
    torch.save(dict(state), file)
    return file.getvalue()
