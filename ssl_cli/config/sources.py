"""Where settings come from.

Flag > --set > SSLCLI_SECTION__KEY > --config > ./sslcli.toml > user file > recipe > default.

Each place gives a `Layer`. Layers are flattened to dotted keys, so merging two of them is merging two dictionaries, and
every key remembers where its value came from.
"""

import contextlib
import os
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ssl_cli.config.layer import ENV, Layer, Written, flatten, leaves, meaning, nest, read_layer
from ssl_cli.config.methods import CustomMethodSettings, MethodSettings, method_settings
from ssl_cli.config.recipe import family_of, recipe_layer
from ssl_cli.config.tree import SHAPING, Settings
from ssl_cli.errors import UsageError
from ssl_cli.names import is_file, shown
from ssl_cli.registry import METHODS, closest, is_library_backbone, method_path

DEFAULT_METHOD = "simclr"
PROJECT_FILE = "sslcli.toml"
MACHINE_KEYS = ("hardware.device", "data.threads", "data.folder")
SWITCHES = {"SSLCLI_DEBUG"}  # variables of ours that are no settings


@dataclass(frozen=True)
class Settled:
    """The settings, and for each dotted key the words for where its value came from."""

    settings: Settings
    origins: Mapping[str, str]


def settle(
    flags: Mapping[str, Any],
    sets: Sequence[str] = (),
    config: Path | None = None,
    *,
    env: Mapping[str, str] = os.environ,
    cwd: Path | None = None,
    user_file: Path | None = None,
    flag_names: Mapping[str, str] | None = None,
) -> Settled:
    """Merge every layer, validate the result once, and remember the origins.

    Args:
        flags: nested tables of what was given on the command line; None counts as not given.
        sets: `a.b=c` of each --set; the last one wins.
        config: file of --config.
        env: the environment.
        cwd: where `sslcli.toml` is looked for; default: here.
        user_file: file of machine preferences; default: the platform's own place.
        flag_names: for a dotted key, the flag to name as its origin.

    Raises:
        UsageError: an unknown name, an impossible value, an unreadable file, no such method or recipe.
    """
    layers = [
        *_flag_layers(flags, flag_names or {}),
        *_set_layers(sets),
        *_env_layers(env),
        *([read_layer(config)] if config else []),
        *_file_layer((cwd or Path()) / PROJECT_FILE),
        *_user_layers(user_file or _user_file()),
    ]
    method, family, recipe = _method_and_recipe(layers)
    layers.append(recipe)
    kind = method_settings(method)
    values: dict[str, Any] = {}
    origins = dict.fromkeys(leaves(kind), "default")
    for layer in reversed(layers):
        flat = flatten(layer, kind)
        values.update(flat)
        origins.update(dict.fromkeys(flat, layer.origin))
    _leave_out_another_networks_shape(values, origins, recipe)
    values.setdefault("method.name", method)
    if "run.recipe" not in values:
        values["run.recipe"], origins["run.recipe"] = family, "default"
    return Settled(_validated(values, layers), origins)


def settle_machine(
    flags: Mapping[str, Any],
    *,
    env: Mapping[str, str] = os.environ,
    user_file: Path | None = None,
    flag_names: Mapping[str, str] | None = None,
    own_method: bool = False,
) -> dict[str, Any]:
    """What is said of this machine, by dotted key: all that a command on a finished run takes from outside the run.

    Args:
        flags: nested tables of what was given on the command line; None counts as not given.
        env: the environment; a name in it that is no method's setting is refused here too.
        user_file: file of machine preferences; default: the platform's own place.
        flag_names: for a dotted key, the flag to name as its origin.
        own_method: whether the run's method is the user's own, whose settings may have any name.

    Raises:
        UsageError: an unknown name or an impossible value.
    """
    variables = list(_env_layers(env))
    kinds = [method_settings(name) for name in METHODS]
    if own_method:
        kinds.append(CustomMethodSettings)
    for layer in variables:
        _require_known(layer, kinds)
    layers = [*_flag_layers(flags, flag_names or {}), *variables, *_user_layers(user_file or _user_file())]
    values: dict[str, Any] = {}
    for layer in reversed(layers):
        for key in (*MACHINE_KEYS, "data.download") if layer.origin.startswith(ENV) else _dotted(layer.table):
            if layer.get(key) is not None:
                values |= flatten(Layer(layer.origin, nest({key: layer.get(key)}), layer.text), kinds[0])
    settings = _validated({**values, "method.name": DEFAULT_METHOD}, layers).model_dump()
    return {key: settings[section][name] for key in values for section, _, name in [key.partition(".")]}


def _require_known(layer: Layer, kinds: Sequence[type[MethodSettings]]) -> None:
    """Refuse names that are no setting of any of these methods."""
    faults: list[UsageError] = []
    for kind in kinds:
        try:
            flatten(layer, kind)
        except UsageError as error:
            faults.append(error)
    if len(faults) == len(kinds):
        raise faults[0]


def _flag_layers(flags: Mapping[str, Any], names: Mapping[str, str], prefix: str = "") -> Iterator[Layer]:
    for name, value in flags.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _flag_layers(value, names, f"{key}.")
        elif value is not None:
            yield Layer(names.get(key, "the command line"), nest({key: value}))


def _set_layers(sets: Sequence[str]) -> Iterator[Layer]:
    for item in reversed(sets):
        key, equals, value = item.partition("=")
        if not (key.strip() and equals):
            raise UsageError(f"Cannot read --set {item}.", "Write it as --set section.key=value.")
        yield Layer("--set", nest({key.strip(): Written(value.strip())}))


def _env_layers(env: Mapping[str, str]) -> Iterator[Layer]:
    for name, value in sorted(env.items()):
        if name.startswith(ENV) and name not in SWITCHES:
            key = name.removeprefix(ENV).lower().replace("__", ".")
            yield Layer(name, nest({key: Written(value)}))


def _file_layer(path: Path) -> list[Layer]:
    return [read_layer(path)] if is_file(path) else []


def _user_file() -> Path:
    from platformdirs import user_config_path

    return user_config_path("sslcli") / "config.toml"


def _user_layers(path: Path) -> list[Layer]:
    """The user's file, which speaks of the machine alone: the same command means the same run for everyone."""
    layers = _file_layer(path)
    for layer in layers:
        for key in _dotted(layer.table):
            if key not in MACHINE_KEYS:
                raise UsageError(
                    f"'{key}' has no place in {layer.where(key)}: that file is for {', '.join(MACHINE_KEYS)}.",
                    f"Put it into ./{PROJECT_FILE}.",
                )
    return layers


def _dotted(table: Mapping[str, Any]) -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from (f"{name}.{inner}" for inner in value)
        else:
            yield name


def _method_and_recipe(layers: Sequence[Layer]) -> tuple[str, str, Layer]:
    """The method first, since it decides which recipes and which settings there are."""
    named = _first(layers, "method.name")
    method = str(named if named is not None else DEFAULT_METHOD)
    wanted = _first(layers, "run.recipe")
    if wanted is None:
        wanted = family_of(_text(_first(layers, "data.source")), _first(layers, "data.size"), method)
    with _from("method.name", layers):
        method_path(method)
    with _from("run.recipe", layers):
        recipe = recipe_layer(method, str(wanted))
    if named is None and recipe.get("method.name") is not None:  # a recipe file may name its method
        method = str(recipe.get("method.name"))
        with _from("method.name", [recipe]):
            method_path(method)
    return method, str(wanted), recipe


@contextlib.contextmanager
def _from(key: str, layers: Sequence[Layer]) -> Iterator[None]:
    """Say in a refusal where the refused name comes from."""
    try:
        yield
    except UsageError as error:
        layer = next((layer for layer in layers if layer.get(key) is not None), None)
        if layer is None:
            raise
        raise UsageError(f"{error.message.removesuffix('.')} (from {layer.where(key)}).", error.hint) from error


def _leave_out_another_networks_shape(values: dict[str, Any], origins: dict[str, str], recipe: Layer) -> None:
    """What a recipe says of the shape of its own backbone is not for a borrowed one that was asked for instead."""
    if not is_library_backbone(str(values.get("model.backbone"))) or origins["model.backbone"] == recipe.origin:
        return
    for key in (f"model.{name}" for name in SHAPING):
        if origins[key] == recipe.origin:
            del values[key]
            origins[key] = "default"


def _first(layers: Iterable[Layer], key: str) -> Any:
    """What stands first for a setting that is text."""
    return next((meaning(value, str) for layer in layers if (value := layer.get(key)) is not None), None)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _validated(values: Mapping[str, Any], layers: Sequence[Layer]) -> Settings:
    try:
        return Settings.model_validate(nest(values))
    except ValidationError as error:
        raise UsageError(*_sentence(error, values, layers)) from error


def _sentence(error: ValidationError, values: Mapping[str, Any], layers: Sequence[Layer]) -> tuple[str, str]:
    """The first refused setting in one sentence: key, value, origin and what it must be; and what to do about it."""
    reasons: dict[str, list[str]] = {}
    words: list[str] = []
    for detail in error.errors(include_url=False):
        key = _key_of(detail["loc"], values)
        reasons.setdefault(key, []).append(_reason(detail["msg"]))
        if key == next(iter(reasons)):
            words += re.findall(r"'([^']+)'", str(detail.get("ctx", {}).get("expected", "")))
    key, why = next(iter(reasons.items()))
    value = values.get(key)
    must, *tip = re.split(r"\. (?=Did you mean |Known: )", " or ".join(why).replace(" or it should be ", " or "))
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    at, layer = _culprit(key, layers)
    meant = closest(value, words) if isinstance(value, str) else None
    hint = tip[0] if tip else (f"Did you mean '{meant}'?" if meant else layer.remedy(at))
    if key not in values:  # a table whose settings contradict each other
        return f"The settings of '{key}' are refused (from {layer.where(at)}): {must}{more}.", hint
    return f"{key} = {reprlib.repr(value)} (from {layer.where(at)}) is refused: {must}{more}.", hint


def _culprit(key: str, layers: Sequence[Layer]) -> tuple[str, Layer]:
    """The strongest place that sets the key, or something below it; and the key that it sets."""
    for layer in layers:
        value = layer.get(key)
        if isinstance(value, Mapping) and value:
            return f"{key}.{next(iter(value))}", layer
        if value is not None:
            return key, layer
    return key, Layer("the command line", {})


def _key_of(loc: Sequence[int | str], values: Mapping[str, Any]) -> str:
    """The setting that pydantic speaks of; behind it may stand a list index or the branch of a union."""
    for end in range(len(loc), 0, -1):
        key = ".".join(str(part) for part in loc[:end])
        if key in values:
            return key
    return ".".join(str(part) for part in loc)


def _reason(message: str) -> str:
    """Pydantic's message as the end of our sentence."""
    message = re.sub(r"^Value error, ", "", message).split(", unable to")[0].rstrip(".")
    return re.sub(r"^Input should", "it should", shown(message))
