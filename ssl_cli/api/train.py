"""Pretraining in Python: `for event in ssl_cli.train("photos/", epochs=20): ...`."""

import os
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_cli.config.flags import ARGUMENT, SETTINGS, flags
from ssl_cli.config.sources import settle
from ssl_cli.config.toml_file import flatten
from ssl_cli.config.tree import Settings
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.errors import UsageError
from ssl_cli.events import Event
from ssl_cli.names import shown
from ssl_cli.registry import did_you_mean

Place = str | os.PathLike[str]


def train(
    data: Place | Sequence[Place] | Mapping[str, Any] | None = None,
    *,
    out: Place | None = None,
    resume: bool = False,
    overwrite: bool = False,
    gentle: bool = False,
    config: Place | None = None,
    **settings: Any,
) -> Generator[Event, None, None]:
    """Pretrain an encoder, in this process; yield the events of `ssl_cli.events` as they happen.

    A caller that stops reading, by `break`, an exception or `close()`, stops the run at that step: a checkpoint is
    saved, and the same call with `resume=True` continues. So does a signal, such as Ctrl-C, after which the last event
    is `Stopped`. Nothing happens before the first event is asked for.

    Args:
        data: images, as DATA of `sslcli pretrain`: one place or several; None: the embedded shapes; or the section
            `data` of the settings tree as a table.
        out: run folder; None: `runs/<date-time>-<method>`.
        resume: continue the run in `out`, or start it where there is none.
        overwrite: replace the run in `out`.
        gentle: weaker augmentation, as `--gentle`.
        config: a TOML file of settings.
        settings: as on the command line. By the name of a flag, such as `method="moco-v2"`, `batch=128` or `epochs=20`;
            or a section of the settings tree as a table, such as `optim={"lr": 0.06}`. What is not given comes from
            `SSLCLI_SECTION__KEY`, `config`, `./sslcli.toml`, the user's file, the recipe and the defaults.

    Raises:
        UsageError: an unknown setting or an impossible value, or `out` cannot be used; at once.
        SslcliError: any other error a user can cause, where the events are read; it is also in `status.json`.
    """
    places = data if data is None or isinstance(data, Mapping) else _places(data)
    tables, names = _tables({"data": places, "out": out, **settings})
    settled = settle(tables, (), Path(config) if config else None, flag_names=names, gentle=gentle)
    return pretrain(settled.settings, origins=settled.origins, resume=resume, overwrite=overwrite)


def _places(data: Place | Sequence[Place]) -> list[str]:
    return [os.fspath(data)] if isinstance(data, str | os.PathLike) else [os.fspath(place) for place in data]


def _tables(given: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return the settings as nested tables, and for each dotted key the argument that gives it.

    Raises:
        UsageError: an argument of another name.
    """
    sections = Settings.model_fields.keys()
    short = {name: value for name, value in given.items() if name in SETTINGS and not isinstance(value, Mapping)}
    short = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in short.items()}
    tables, names = flags(short), {SETTINGS[name]: f"{ARGUMENT}{name}" for name in short}
    for name, value in given.items():
        if name in short:
            continue
        if name not in sections:
            raise UsageError(f"There is no setting '{shown(name)}'.", did_you_mean(name, {*SETTINGS, *sections}))
        if not isinstance(value, Mapping):
            raise UsageError(f"'{name}' is a table of settings.", f"Pass {name}={{'key': value}}.")
        names |= {f"{name}.{key}": f"{ARGUMENT}{name}" for key, _ in flatten(value)}
        tables[name] = {**tables.get(name, {}), **value}
    return tables, names
