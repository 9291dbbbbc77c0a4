"""Refuse what can be refused before torch is imported: in half a second rather than in three."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_cli import disk, packages
from ssl_cli.commands import options
from ssl_cli.config.image_list import STDIN
from ssl_cli.errors import UsageError
from ssl_cli.names import expanded, is_folder, shown
from ssl_cli.registry import method_path
from ssl_cli.world import world

if TYPE_CHECKING:
    from ssl_cli.commands.training import Request
    from ssl_cli.config.tree import Settings


PLAN_OR_RESUME = (
    "--dry-run plans a new run, and --resume continues one.",
    "Leave one of them out; what a run decided is in its plan.json.",
)


def training(settings: "Settings", *, resume: bool, overwrite: bool, dry_run: bool, devices: int | None = None) -> None:
    """Refuse a run that could not start, and a dry run of one.

    Raises:
        UsageError: flags that exclude each other or the ranks there are, or a run folder that cannot be used.
        DataError: no such images.
        CheckpointError: no such run or file to start from.
        LockedError: another process works in the run folder.
    """
    from ssl_cli.data.places import require_data
    from ssl_cli.run_path import has_trained, is_started, nothing_to_resume, refuse_unfit, require_run
    from ssl_cli.trackers.track import require_installed

    if dry_run and resume:
        raise UsageError(*PLAN_OR_RESUME)
    ranks(devices, settings.data.places)
    out = settings.run.out
    refuse_unfit(None if out is None else Path(out), resume=resume, overwrite=overwrite)
    if (folder := settings.data.cache_folder) is not None and settings.data.cache == "disk":
        disk.require_writable(expanded(folder), f"the cache in {shown(folder)}", "Choose another data.cache_folder.")
    if (name := settings.model.backbone).startswith("timm:"):
        packages.require("timm", name)
    resumed = resume and out is not None and is_started(Path(out))
    if resume and out is not None and not has_trained(Path(out)) and settings.data.source is None:
        raise nothing_to_resume(Path(out), "run", "sslcli pretrain DATA")
    require_data(settings.data)
    if resumed:
        return  # what it starts from, and its trackers, are the run's own
    require_installed(settings.run.trackers)
    if settings.model.init_from is not None:
        hint = "Give the folder of a run, or a file of weights, such as a .pth or .safetensors."
        require_run(str(expanded(settings.model.init_from)), hint)


def ranks(devices: int | None, places: Sequence[str]) -> None:
    """Refuse several ranks where another launcher has started others, or one process alone can read the images.

    Raises:
        UsageError: neither works.
    """
    here = world()
    if devices is not None and here.size > 1 and not here.launched and devices != here.size:
        raise UsageError(
            f"--devices {devices}, but another launcher has started {here.size} ranks.", "Leave --devices out."
        )
    if STDIN in places and max(devices or 1, here.size) > 1:
        raise UsageError("DATA is -, which one process alone can read.", "Write the list to a file, and give that.")


def starting(params: Mapping[str, Any], run: str | None, request: "Request", *, plan_alone: bool) -> None:
    """Refuse what `transfer.start` would, as far as that needs no torch.

    Raises:
        CheckpointError: there is no run to start from.
        DataError: no such images.
        UsageError: labels that cannot be read, a run folder that cannot be used, or flags that exclude each other.
    """
    from ssl_cli.config.labels import parse_labels
    from ssl_cli.config.tree import DataSettings
    from ssl_cli.data.places import require_data
    from ssl_cli.run_path import refuse_unfit, require_run

    if plan_alone and request.resume:
        raise UsageError(*PLAN_OR_RESUME)
    out = params.get("out")
    refuse_unfit(None if out is None else Path(out), resume=request.resume, overwrite=request.overwrite)
    if run is not None:
        require_run(run)
    if params.get("labels") is not None:
        parse_labels(params["labels"])
    if params.get("data"):
        require_data(DataSettings(source=options.places(params["data"]), test=params.get("test_data")))


def evaluation(
    run: str, data: Sequence[str] | None, test_data: str | None, *, device: str | None, download: bool | None,
    method: str | None, group_by: str | None = None,
) -> tuple[str, dict[str, Any]]:  # fmt: skip
    """Return the device to evaluate on and this machine's data settings; refuse what could not be evaluated.

    Raises:
        UsageError: a wrong setting of the machine, or no such method.
        CheckpointError: no such run.
        DataError: no such images.
    """
    from ssl_cli.config.group_by import require_group_by
    from ssl_cli.config.sources import settle_machine
    from ssl_cli.config.tree import DataSettings
    from ssl_cli.data.collect import require_places
    from ssl_cli.data.places import require_data
    from ssl_cli.run_path import require_run

    flags = {"hardware": {"device": device}, "data": {"download": download}}
    settled = settle_machine(flags, flag_names=options.FLAG_NAMES, own_method=method is not None)
    require_run(run)
    if method is not None:
        method_path(method)
    if group_by is not None:
        require_group_by(group_by)
    if data:
        require_data(DataSettings(source=options.places(data), test=test_data, group_by=group_by))
    elif test_data is not None:
        require_places([test_data])
    words = {key.removeprefix("data."): value for key, value in settled.items() if key.startswith("data.")}
    words |= {} if group_by is None else {"group_by": group_by}
    return settled.get("hardware.device", "auto"), words


def picture(
    output: Path, stem: str = "picture", endings: Sequence[str] = (".png",), images: Sequence[str] | None = None
) -> None:
    """Refuse a picture that could not be written.

    Args:
        output: the file.
        stem: a name that it could have.
        endings: that it may have.
        images: the places of the images, among which it may not be.

    Raises:
        UsageError: it is a folder, has another ending, or would be among the images.
        ResourceError: its folder cannot be written to, or created.
    """
    from ssl_cli.config.images import refuse_among_images

    name = shown(str(output))
    if is_folder(output):
        example = shown(str(output / f"{stem}{endings[0]}"))
        raise UsageError(f"{name} is a folder.", f"Name a file in it, such as {example}.")
    if output.suffix.lower() not in endings:
        kinds = " nor ".join(ending.removeprefix(".").upper() for ending in endings)
        what = f"{name} would be neither {kinds}." if len(endings) > 1 else f"{name} would not be a {kinds}."
        raise UsageError(what, f"Give it a name that ends in {' or '.join(endings)}.")
    disk.require_writable(output.parent, name, "Choose another place for it.")
    refuse_among_images(output, *(images or ()))
