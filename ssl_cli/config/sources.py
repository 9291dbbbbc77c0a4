"""Where settings come from.

Flag > --set > SSLCLI_SECTION__KEY > --config > ./sslcli.toml > user file > recipe > default.

Each place gives a `Layer`. Layers are flattened to dotted keys, so merging two of them is merging two dictionaries, and
every key remembers where its value came from.
"""

import os
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ssl_cli.config.layer import ENV, Layer, Written, env_name, flatten, leaves, nest, read_toml
from ssl_cli.config.recipe import family_of, recipe_layer
from ssl_cli.config.tree import Settings, method_settings
from ssl_cli.errors import UsageError
from ssl_cli.registry import method_path

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
        *([Layer(str(config), read_toml(config))] if config else []),
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
    values.setdefault("method.name", method)
    if "run.recipe" not in values:
        values["run.recipe"], origins["run.recipe"] = family, "default"
    return Settled(_validated(values, origins), origins)


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
    return [Layer(str(path), read_toml(path))] if path.is_file() else []


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
                    f"'{key}' has no place in {path}: that file is for {', '.join(MACHINE_KEYS)}.",
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
    wanted = _first(layers, "run.recipe")
    if wanted is None:
        wanted = family_of(_text(_first(layers, "data.source")), _first(layers, "data.size"))
    method = str(named if named is not None else DEFAULT_METHOD)
    method_path(method)
    recipe = recipe_layer(method, str(wanted))
    if named is None and recipe.get("method.name") is not None:  # a recipe file may name its method
        method = str(recipe.get("method.name"))
        method_path(method)
    return method, str(wanted), recipe


def _first(layers: Iterable[Layer], key: str) -> Any:
    return next((value for layer in layers if (value := layer.get(key)) is not None), None)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _validated(values: Mapping[str, Any], origins: Mapping[str, str]) -> Settings:
    try:
        return Settings.model_validate(nest(values))
    except ValidationError as error:
        raise UsageError(*_sentence(error, values, origins)) from error


def _sentence(error: ValidationError, values: Mapping[str, Any], origins: Mapping[str, str]) -> tuple[str, str]:
    """The first refused setting in one sentence: key, value, origin and what it must be; and how to set it."""
    reasons: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        reasons.setdefault(_key_of(detail["loc"], values), []).append(_reason(detail["msg"]))
    key, why = next(iter(reasons.items()))
    value = reprlib.repr(values.get(key, ""))
    must = " or ".join(why).replace(" or it should be ", " or ")
    more = f" (And {len(reasons) - 1} more.)" if len(reasons) > 1 else ""
    sentence = f"{key} = {value} (from {origins.get(key, 'default')}) is refused: {must}.{more}"
    return sentence, f"Set it by --set {key}=VALUE, {env_name(key)}, or in ./{PROJECT_FILE}."


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
    return re.sub(r"^Input should", "it should", message)
