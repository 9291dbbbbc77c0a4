"""`sslcli study`: compare methods or settings on the same images, in turns, over seeds; resumable at any point."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssl_cli import disk, lock
from ssl_cli.commands import complete, options
from ssl_cli.errors import DONE, EXIT_CODES, DivergedError, Interrupted, ResourceError, UsageError
from ssl_cli.names import expanded
from ssl_cli.run_path import default_path, nothing_to_resume
from ssl_cli.study.table import STUDIES, methods_of, study_named
from ssl_cli.ui.text import safe
from ssl_cli.world import world

if TYPE_CHECKING:  # pydantic-settings takes 0.2 s to import: only once the command line is parsed
    from ssl_cli.study.book import Asked, Book
    from ssl_cli.study.run import Runner

LIST, SHOW = "list", "show"
EPILOG = options.examples(
    "MoCo v2 against SimCLR on your images: sslcli study rivalry photos/ --time 2h --out runs/rivalry",
    "What it would run, without training: sslcli study rivalry photos/ --time 2h --dry-run",
    "All six methods: sslcli study rivalry photos/ --methods moco-v2,simclr,simclr-v2,moco-v1,invaspread,instdisc",
    "Continue after an interruption: sslcli study --resume --out runs/rivalry",
    "The table again: sslcli study show runs/rivalry",
    "All studies: sslcli study list",
)
Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help=f"{', '.join(STUDIES)}; or `list`, or `show`.",
        autocompletion=complete.studies,
        show_default=False,
    ),
]
StudyTime = Annotated[
    str | None, typer.Option(metavar="T", help="All runs in 20m, 2h (default: 1h)", rich_help_panel=options.TRAINING)
]
Seeds = Annotated[int | None, typer.Option(metavar="N", help="Seeds (default: 3)", rich_help_panel=options.TRAINING)]
Seed = Annotated[
    int | None, typer.Option(metavar="N", help="The first of them (default: 0)", rich_help_panel=options.TRAINING)
]
Methods = Annotated[
    str | None,
    typer.Option(metavar="A,B", help="Methods of a rivalry (default: the study's)", rich_help_panel=options.TRAINING),
]
Arms = Annotated[
    str | None, typer.Option(metavar="A,B", help="Some arms only (default: all)", rich_help_panel=options.TRAINING)
]
Memory = Annotated[
    str | None,
    typer.Option(metavar="M", help="Of every run, like 4GB (default: auto)", rich_help_panel=options.HARDWARE),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of all runs.", rich_help_panel=options.SETTING),
]
Folder = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Folder of all runs (default: runs/<time>-study)", rich_help_panel=options.OUTPUT),
]


def study(
    ctx: typer.Context,
    name: Name = None,
    data: options.Data = None,
    time: StudyTime = None,
    seeds: Seeds = None,
    seed: Seed = None,
    methods: Methods = None,
    arms: Arms = None,
    download: options.Download = None,
    device: options.Device = None,
    memory: Memory = None,
    set_: Set = None,
    out: Folder = None,
    resume: options.Resume = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Compare methods, or settings, on the same images: in turns, over seeds, with intervals."""
    if name in (LIST, SHOW):
        _refuse_more(name, ctx.params)
    if name == LIST:
        return _list(as_json=json)
    if name == SHOW:
        return _show(data or ([out] if out else []), as_json=json)
    _refuse(name, out, resume=resume, dry_run=dry_run)
    from ssl_cli.study import book as books

    given = books.normal({**{key: ctx.params[key] for key in books.ABSENT}, "sets": tuple(set_ or ())})
    folder = Path(out) if out is not None else default_path("study")
    found = books.opened(folder, resume=resume)
    if found is not None:
        books.require_same(found.asked, given)
    elif name is None:
        raise nothing_to_resume(folder, "study", "sslcli study NAME DATA")
    asked = found.asked if found is not None else books.asked(given)
    if found is None:
        _require_images(asked)
    from ssl_cli.signals import stop_request

    with stop_request() as request:  # from here on: torch takes seconds to be imported
        if found is None:
            from ssl_cli.study.prepare import prepare

            found = prepare(asked)
            request.raise_if_signalled()
        if dry_run:
            return _plan(found, folder, as_json=json)
        from ssl_cli.study.measure import measure
        from ssl_cli.study.run import Runner

        return _run(Runner(folder, request, measure), found, as_json=json)


def _refuse(name: str | None, out: str | None, *, resume: bool, dry_run: bool) -> None:
    """Refuse flags that exclude each other, a study that there is not, and several ranks."""
    if world().size > 1:
        raise UsageError("study runs in one process.", "Leave the launcher out.")
    if dry_run and resume:
        from ssl_cli.commands.preflight import PLAN_OR_RESUME

        raise UsageError(*PLAN_OR_RESUME)
    if out is None and resume:
        raise UsageError("--resume needs to know which study.", "Name its folder with --out.")
    if name is not None:
        study_named(name)
    elif not resume:
        raise UsageError("study needs a NAME.", f"One of {', '.join(STUDIES)}; sslcli study list explains them.")


def _refuse_more(name: str, params: Mapping[str, Any]) -> None:
    """Refuse what `study list` and `study show` would not obey.

    Raises:
        UsageError: more is given than the folder to show.
    """
    folder = ("data", "out") if name == SHOW else ()
    given = [key for key, value in params.items() if value and key not in ("name", "json", "debug", *folder)]
    places = [*(params["data"] or ()), *filter(None, [params["out"]])] if name == SHOW else []
    if given or len(places) > 1:
        what = "takes the folder of one study and nothing else" if name == SHOW else "takes nothing else"
        raise UsageError(f"study {name} {what}.", "sslcli study show DIR" if name == SHOW else "sslcli study list")


def _require_images(asked: "Asked") -> None:
    """Refuse images or settings that no run could have, before torch is imported.

    Raises:
        DataError: no such images.
        UsageError: a setting that is not valid.
    """
    from ssl_cli.data.places import require_data

    first = methods_of(study_named(asked.name), asked.methods)[0]
    require_data(asked.settled(first, {}).settings.data)


def _list(*, as_json: bool) -> int:
    from ssl_cli.ui import study as display
    from ssl_cli.ui.document import write_document

    studies = [{"name": found.name, "asks": found.asks, "equal": found.equal} for found in STUDIES.values()]
    write_document("study", {"studies": studies}, display.listing(), as_json=as_json)
    return DONE


def _show(places: list[str], *, as_json: bool) -> int:
    """Print a study again, as far as it is, and draw its charts."""
    if not places:
        raise UsageError("study show needs the folder of a study.", "sslcli study show DIR")
    from ssl_cli.study.book import read

    folder = expanded(places[0])
    return _report(read(folder), folder, as_json=as_json)


def _plan(book: "Book", folder: Path, *, as_json: bool) -> int:
    from ssl_cli.ui import study as display
    from ssl_cli.ui.document import write_document

    document = {"dry_run": True, **display.document(book, folder)}
    write_document("study", document, display.plan(book, folder), as_json=as_json)
    return DONE


def _run(runner: "Runner", book: "Book", *, as_json: bool) -> int:
    """Run what is left of a study, in turns, and report it; return the exit code."""
    from ssl_cli.study.advice import warnings
    from ssl_cli.study.book import write
    from ssl_cli.study.summary import Summary
    from ssl_cli.ui import study as display

    folder = runner.folder
    disk.make_folder(folder)
    with lock.acquire(folder):
        write(folder, book, warnings(Summary(book)))
        sys.stderr.writelines(f"{line}\n" for line in display.plan(book, folder))
        for number, (arm, seed) in enumerate(book.turns, 1):
            if book.result(arm, seed) is not None:
                continue
            sys.stderr.write(f"\n{display.title(book, arm, seed, number)}\n")
            sys.stderr.flush()
            try:
                result = runner.run(book, book.arm(arm), seed)
            except Interrupted as stop:
                return _stopped(book, folder, stop, as_json=as_json)
            book = book.with_result(result)
            write(folder, book, warnings(Summary(book)))
            sys.stderr.write(f"{display.outcome(result)}\n")
    if not any(result.numbers for result in book.results):
        what = f"No run of the study reached its end: {book.results[-1].state}: {book.results[-1].reason}"
        raise DivergedError(what.rstrip(": "), "Try --set with a lower rate, or another --memory, in another --out.")
    return _report(book, folder, as_json=as_json)


def _report(book: "Book", folder: Path, *, as_json: bool) -> int:
    """Write the charts to the folder, and the table to stdout."""
    from ssl_cli.study.chart import MISSING, draw
    from ssl_cli.study.summary import Summary
    from ssl_cli.ui import study as display
    from ssl_cli.ui.document import write_document

    summary, paths, why = Summary(book), list[Path](), MISSING
    try:
        paths = draw(summary, folder)
    except ResourceError as error:  # such as a folder that may only be read: the table is there all the same
        why = error.message
    charts = [f"chart      {safe(path)}" for path in paths] or [f"chart      {safe(why)}"] * bool(summary.qualities)
    document = {**display.document(book, folder), "charts": list(map(str, paths))}
    write_document("study", document, [*display.lines(book, folder), *charts], as_json=as_json)
    return DONE


def _stopped(book: "Book", folder: Path, stop: Interrupted, *, as_json: bool) -> int:
    """Report a study that was stopped, and how to continue it; return the exit code."""
    from ssl_cli.ui import study as display
    from ssl_cli.ui.document import write_document

    again = f"sslcli study --resume --out {shlex.quote(str(folder))}"
    document = display.document(book, folder)
    document["error"] = {"code": stop.code, "message": f"Stopped: {stop.reason}.", "hint": again}
    done, runs = len(book.results), len(book.turns)
    what = f"stopped    after {done} of {runs} runs: {safe(stop.reason)} ({EXIT_CODES[stop.code]})"
    write_document("study", document, (what, f"next       {again}"), as_json=as_json)
    return stop.code
