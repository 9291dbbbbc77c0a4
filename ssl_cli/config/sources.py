"""The sources of a run's settings for pydantic-settings, and `settle`, which merges them: the first one wins.

Flag > --set > --gentle > SSLCLI_SECTION__KEY > --config > ./sslcli.toml > user file > recipe > default.
"""

import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource, PydanticBaseSettingsSource

from ssl_cli.config.augment import AugmentSettings
from ssl_cli.config.methods import MethodSettings, method_settings
from ssl_cli.config.recipe import family_of, read_recipe, variant
from ssl_cli.config.refusal import ENV, refusal, unknown
from ssl_cli.config.toml_file import PROJECT_FILE, TomlFile, flatten, is_name, nest, parse_toml, read_toml
from ssl_cli.config.tree import SHAPING, DataSettings, Settings, leaves
from ssl_cli.errors import UsageError
from ssl_cli.names import is_there, shown
from ssl_cli.registry import FAMILIES, METHODS, TRANSFERS, is_library_backbone, method_path

DEFAULT_METHOD = "simclr"
MACHINE_KEYS = ("hardware.device", "data.threads", "data.folder", "data.cache_folder")
GENTLE_CROP, GENTLE_GRAY = 0.4, 0.1
SWITCHES = {"SSLCLI_DEBUG"}
"""Variables of ours that are no settings."""
_TEXT = {key for key, field in leaves(MethodSettings).items() if field.annotation in (str, str | None)}
"""Settings that are text: `--set run.out=1e3` names a folder, not a number."""
_PLACES = "data.source"
"""A path, or a list of paths."""
_GROWING = "schedule.resolution"
_SHAPING = {_GROWING, *(f"model.{name}" for name in SHAPING)}


class Source(PydanticBaseSettingsSource):
    """The settings that one place gives.

    Attributes:
        values: by dotted key.
        origins: by dotted key, the words for where the value comes from, such as `line 3 of sslcli.toml`.
        remedy: what to do about a wrong value; holds `{origin}` or `{key}`.
    """

    values: dict[str, Any]
    origins: dict[str, str]
    remedy = "Give {origin} another value, or leave it out."

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return one field's value, as pydantic-settings demands; `__call__` gives all of them at once."""
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:  # noqa: D102
        return nest(self.values)


class Flags(Source):
    """The command line's flags, as nested tables; None stands for a flag that was not given."""

    def __init__(self, flags: Mapping[str, Any], names: Mapping[str, str] | None) -> None:
        super().__init__(Settings)
        self.values = {key: value for key, value in flatten(flags) if value not in (None, {})}
        self.origins = {key: (names or {}).get(key, "the command line") for key in self.values}


class Sets(Source):
    """The items `section.key=value` of --set; of two values for one setting the last counts."""

    remedy = "Give --set {key}=VALUE another value, or leave it out."

    def __init__(self, items: Sequence[str]) -> None:
        super().__init__(Settings)
        self.values = {}
        for item in items:
            key, equals, text = (part.strip() for part in item.partition("="))
            if not (key and equals):
                raise UsageError(f"Cannot read --set {shown(item)}.", "Write it as --set section.key=value.")
            _require_name(key, "--set")
            self.values |= flatten(nest({key: _parsed(key, text)}))
        for key in self.values:
            _require_name(key, "--set")
        self.origins = dict.fromkeys(self.values, "--set")


class Gentle(Source):
    """What `--gentle` makes of an augmentation: large crops, no flip, half as much colour jitter, less gray.

    For pictures that strong crops or flips make unrecognisable: small objects, signs, letters, scans. Never stronger
    than the augmentation was.
    """

    remedy = "Leave {origin} out."

    def __init__(self, augment: AugmentSettings) -> None:
        super().__init__(Settings)
        low, high = augment.crop.scale
        self.values = {
            "augment.crop.scale": (max(low, GENTLE_CROP), max(high, GENTLE_CROP)),
            "augment.flip.p": 0.0,
            "augment.jitter.strength": augment.jitter.strength / 2,
            "augment.gray.p": min(augment.gray.p, GENTLE_GRAY),
        }
        self.origins = dict.fromkeys(self.values, "--gentle")


class Environment(EnvSettingsSource, Source):
    """The variables `SSLCLI_SECTION__KEY`.

    pydantic-settings ignores a variable that names no section, a misspelled one among them. Here it stays among the
    values, so that the tree refuses it as it does any unknown name.
    """

    remedy = "Give the variable {origin} another value, or unset it."

    def __init__(self, env: Mapping[str, str]) -> None:
        variables = sorted(name for name in env if name.startswith(ENV) and name not in SWITCHES)
        for name in variables:
            _require_name(name.removeprefix(ENV).lower().replace("__", "."), name)
        self._given = {name.lower(): env[name] for name in variables}
        super().__init__(Settings, env_prefix=ENV, env_nested_delimiter="__")
        names = {name.removeprefix(ENV).lower().replace("__", "."): name for name in variables}
        strays = {key: env[name] for key, name in names.items() if key.partition(".")[0] not in Settings.model_fields}
        found = [*flatten(EnvSettingsSource.__call__(self)), *strays.items()]
        self.values = {key: _parsed(key, value) if isinstance(value, str) else value for key, value in found}
        self.origins = {}
        for key in self.values:
            _require_name(key, f"a variable {ENV}")
        for start, name in names.items():  # a variable of a whole table before those of its settings
            self.origins |= {key: name for key in self.values if f"{key}.".startswith(f"{start}.")}

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._given

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Read a list or a table as TOML, where pydantic-settings would read JSON."""
        return _parsed(_PLACES if field is DataSettings.model_fields["source"] else field_name, value)

    __call__ = Source.__call__


class File(Source):
    """A TOML file of settings."""

    remedy = "Correct {origin}."

    def __init__(self, file: TomlFile) -> None:
        super().__init__(Settings)
        self.values = dict(file.values)
        self.origins = {key: file.where(key) for key in self.values}


class Recipe(Source):
    """The recipe of the method that the first source names, for the family that is named or suits the data.

    A recipe file may name the method, where no other source does.

    Raises:
        UsageError: when called, if there is no such method, family or file.
    """

    remedy = File.remedy

    def __init__(self, stronger: Sequence[Source]) -> None:
        super().__init__(Settings)
        self.stronger, self.values, self.origins = stronger, {}, {}

    def __call__(self) -> dict[str, Any]:
        """Choose the recipe by what the stronger sources give; its values, without what does not fit those."""
        given = {key: str(value) for key, value in flatten(self.current_state)}
        method = given.get("method.name", DEFAULT_METHOD)
        wanted = given.get("run.recipe")
        if wanted is None:
            wanted = family_of(given.get("data.source"))
        with _origin_of("method.name", self.stronger):
            method_path(method)
        with _origin_of("run.recipe", self.stronger):
            file = read_recipe(variant(method, given.get("method.pretrained", ""), wanted), wanted)
        self.values = {"method.name": method, "run.recipe": wanted, **file.values}
        self.origins = {key: file.name if wanted in FAMILIES else file.where(key) for key in file.values}
        if "method.name" not in given:
            with _origin_of("method.name", [self]):
                method_path(str(self.values["method.name"]))
        if is_library_backbone(given.get("model.backbone", "")):  # not the recipe's own network, which these shape
            self.values = {key: value for key, value in self.values.items() if key not in _SHAPING}
        return nest(self.values)


def _require_name(key: str, origin: str) -> None:
    """Refuse a key that no setting can have, before tables are made of it.

    Raises:
        UsageError: it is none.
    """
    if not is_name(key):
        raise unknown(shown(key), shown(origin), list(leaves(MethodSettings)))


def _parsed(key: str, text: str) -> Any:
    """Read a value as typed in a shell: as TOML where the setting can hold what that gives, else as text."""
    try:
        parsed = parse_toml(f"value = {text}")
    except ValueError:
        return text
    kinds = str if key in _TEXT else (str, list) if key == _PLACES else (str, bool, int, float, list, dict)
    return parsed["value"] if parsed.keys() == {"value"} and isinstance(parsed["value"], kinds) else text


@contextlib.contextmanager
def _origin_of(key: str, sources: Sequence[Source]) -> Iterator[None]:
    """Add to an error raised inside where the value of `key` comes from."""
    try:
        yield
    except UsageError as error:
        origin = next((source.origins[key] for source in sources if key in source.origins), None)
        if origin is None:
            raise
        raise UsageError(f"{error.message.removesuffix('.')} (from {origin}).", error.hint) from error


@dataclass(frozen=True)
class Settled:
    """The settings, and for each dotted key the words for where its value comes from."""

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
    gentle: bool = False,
    start: Sequence[Source] | None = None,
) -> Settled:
    """Merge all sources of settings, validate the result and record the origins.

    Args:
        flags: nested tables of what was given on the command line; None counts as not given.
        sets: `a.b=c` of each --set; the last one wins.
        config: file of --config.
        env: the environment.
        cwd: where `sslcli.toml` is looked for; default: here.
        user_file: file of machine preferences; default: the platform's own place.
        flag_names: for a dotted key, the flag to name as its origin.
        gentle: whether `--gentle` was given, which weakens what the other sources make of the augmentation.
        start: what a run to start from gives: what only flags and --set override, then what only the recipe does not.

    Raises:
        UsageError: an unknown name, an impossible value, an unreadable file, no such method or recipe.
    """
    project = (cwd or Path()) / PROJECT_FILE
    sources: list[Source] = [Flags(flags, flag_names), Sets(sets), Environment(env)]
    sources += [File(read_toml(path)) for path in (config, project) if path and (path is config or is_there(path))]
    sources += _preferences(user_file)
    sources[2:2], sources[len(sources) :] = (start or ())[:1], (start or ())[1:]
    sources.append(Recipe(tuple(sources)))
    settings = _validated(sources)
    if gentle:
        sources[2:2] = [Gentle(settings.augment)]
        settings = _validated(sources)
    settings = _fixed(settings, sources)
    origins = dict.fromkeys(leaves(type(settings.method)), "default")
    for source in reversed(sources):
        keys = [key for key in source.values if key in origins or key.startswith("method.")]
        origins |= {key: source.origins.get(key, "default") for key in keys}
    if start is None and settings.method.name in TRANSFERS:
        name = settings.method.name
        raise UsageError(f"'{name}' (from {origins['method.name']}) is a command of its own.", f"sslcli {name} RUN")
    growing = settings.schedule.resolution
    if growing and growing[0] < 1 and is_library_backbone(settings.model.backbone):
        name = settings.model.backbone
        what = f"{_GROWING} (from {origins[_GROWING]}) is for our own ResNets: {name} has views of one size."
        raise UsageError(what, f"Leave {_GROWING} out, or take another --backbone.")
    return Settled(settings, origins)


def settle_machine(
    flags: Mapping[str, Any],
    *,
    env: Mapping[str, str] = os.environ,
    user_file: Path | None = None,
    flag_names: Mapping[str, str] | None = None,
    own_method: bool = False,
) -> dict[str, Any]:
    """Return the settings of this machine by dotted key: all that a command on a finished run takes from outside it.

    Args:
        flags: nested tables of what was given on the command line; None counts as not given.
        env: the environment; a name in it that is no method's setting is refused here too.
        user_file: file of machine preferences; default: the platform's own place.
        flag_names: for a dotted key, the flag to name as its origin.
        own_method: whether the run's method is the user's own, whose settings may have any name.

    Raises:
        UsageError: an unknown name or an impossible value.
    """
    variables = Environment(env)
    known = {key for name in METHODS for key in leaves(method_settings(name))}
    for key in variables.values:
        if key not in known and not (own_method and key.startswith("method.")):
            raise unknown(key, variables.origins[key], sorted(known))
    variables.values = {
        key: variables.values[key] for key in (*MACHINE_KEYS, "data.download") if key in variables.values
    }
    sources = [Flags(flags, flag_names), variables, *_preferences(user_file)]
    settings = dict(flatten(_validated(sources, method={"name": DEFAULT_METHOD}).model_dump()))
    return {key: settings[key] for source in sources for key in source.values}


def _fixed(settings: Settings, sources: Sequence[Source]) -> Settings:
    """Remove from `run.fit` what a stronger source gives than the one that names it: that value is the user's."""
    stronger = itertools.takewhile(lambda source: "run.fit" not in source.values, sources)
    given = {key for source in stronger for key in source.values}
    given |= _SHAPING if is_library_backbone(settings.model.backbone) else set()
    left = tuple(key for key in settings.run.fit if key not in given)
    return settings.model_copy(update={"run": settings.run.model_copy(update={"fit": left})})


def _preferences(path: Path | None) -> list[File]:
    """Read the user's file, if there is one: of the machine alone, so that a command means one run for everyone."""
    from platformdirs import user_config_path

    path = path or user_config_path("sslcli") / "config.toml"
    if not is_there(path):
        return []
    file = File(read_toml(path))
    for key in file.values.keys() - set(MACHINE_KEYS):
        raise UsageError(
            f"'{key}' has no place in {file.origins[key]}: that file is for {', '.join(MACHINE_KEYS)}.",
            f"Put it into ./{PROJECT_FILE}.",
        )
    return [file]


def _validated(sources: Sequence[Source], **weakest: Any) -> Settings:
    try:
        return Settings(*sources, **weakest)
    except ValidationError as error:
        raise refusal(error, sources) from error
