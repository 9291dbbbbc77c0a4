"""The program `sslcli`: its commands, and the report of every error.

Nothing here imports torch: a command's body does, once its arguments are validated.
"""

import contextlib
import functools
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from ssl_cli.commands import (
    bench,
    config,
    data,
    distill,
    doctor,
    draw_map,
    embed,
    export,
    finetune,
    inspect_augs,
    knn_eval,
    linear_eval,
    methods,
    neighbors,
    options,
    pipeline,
    pretrain,
    runs,
    study,
    watch,
)
from ssl_cli.commands.suggestions import SUGGESTIONS
from ssl_cli.errors import (
    DONE,
    INTERRUPTED,
    SHORT_CODES,
    Interrupted,
    RankError,
    ResourceError,
    SslcliError,
    UsageError,
    convert_exception,
)
from ssl_cli.names import is_folder, shown
from ssl_cli.registry import closest
from ssl_cli.signals import stop_reason
from ssl_cli.ui.screen import TRAINING
from ssl_cli.ui.stream import DisplayStream, discard, write_result
from ssl_cli.world import world

AFTERWORD = (
    "A traceback is shown with --debug behind any command, or SSLCLI_DEBUG=1. A run's is always in its train.log.\n\n"
    + "Exit codes: "
    + ", ".join(f"{code} {meaning}" for code, meaning in SHORT_CODES.items())
    + "."
)


@contextlib.contextmanager
def _ctrl_c() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(stop_reason(signal.SIGINT), INTERRUPTED) from None


class Commands(TyperGroup):
    """The group of commands, in the order of work; its --help shows no <bool>."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, with the metavar of flags that take no value."""
        return options.switches(super().get_params(ctx))

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Parse the command line; a Ctrl-C becomes an `Interrupted`, since typer would end with its exit code alone."""
        with _ctrl_c():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a Ctrl-C as above."""
        with _ctrl_c():
            return super().invoke(ctx)


class Command(TyperCommand):
    """One command; its --help shows no <bool>."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, with the metavar of flags that take no value."""
        return options.switches(super().get_params(ctx))


app = typer.Typer(
    name="sslcli",
    cls=Commands,
    help="Contrastive self-supervised pretraining of image encoders.",
    epilog=options.examples(
        "Train on the embedded images: sslcli pretrain --out runs/first",
        "Other methods, and their settings: sslcli methods",
        "What the network sees of them: sslcli inspect-augs",
        "How good it is, by its neighbours: sslcli knn-eval runs/first --baselines",
        "How good it is, by a linear classifier: sslcli linear-eval runs/first",
        "A classifier of it, from a tenth of the labels: sslcli finetune runs/first --labels 10%",
        "Whether this machine is fit for it: sslcli doctor",
        "How fast it is, and what would help: sslcli bench",
        "Take it with you: sslcli export runs/first -o encoder.onnx",
        "A vector for each picture: sslcli embed runs/first photos/ -o vectors.npy",
        "The images most like one: sslcli neighbors runs/first cat.jpg --data photos/",
        "All of them on a page: sslcli map runs/first photos/ -o map.html",
    )
    + f"\n\n{AFTERWORD}",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
TRAIN, MEASURE, USE = "1 Train", "2 Measure", "3 Use"


def _add(name: str, body: Callable[..., int], epilog: str, panel: str) -> None:
    app.command(name, cls=Command, epilog=epilog, rich_help_panel=panel)(body)


_add("pretrain", pretrain.pretrain, pretrain.EPILOG, TRAIN)
_add("finetune", finetune.finetune, finetune.EPILOG, TRAIN)
_add("distill", distill.distill, distill.EPILOG, TRAIN)
_add("pipeline", pipeline.pipeline, pipeline.EPILOG, TRAIN)
_add("data", data.data, data.EPILOG, TRAIN)
_add("methods", methods.methods, methods.EPILOG, TRAIN)
_add("config", config.config, config.EPILOG, TRAIN)
_add("inspect-augs", inspect_augs.inspect_augs, inspect_augs.EPILOG, TRAIN)
_add("knn-eval", knn_eval.knn_eval, knn_eval.EPILOG, MEASURE)
_add("linear-eval", linear_eval.linear_eval, linear_eval.EPILOG, MEASURE)
_add("bench", bench.bench, bench.EPILOG, MEASURE)
_add("doctor", doctor.doctor, doctor.EPILOG, MEASURE)
_add("runs", runs.runs, runs.EPILOG, MEASURE)
_add("watch", watch.watch, watch.EPILOG, MEASURE)
_add("study", study.study, study.EPILOG, MEASURE)
_add("export", export.export, export.EPILOG, USE)
_add("embed", embed.embed, embed.EPILOG, USE)
_add("neighbors", neighbors.neighbors, neighbors.EPILOG, USE)
_add("map", draw_map.draw_map, draw_map.EPILOG, USE)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"sslcli {version('sslcli')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", metavar=options.SWITCH, help="Show the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Contrastive self-supervised pretraining of image encoders."""
    words = ctx.obj or ()
    if not {"--help", "-h"} & {*words} and ctx.invoked_subcommand is not None:
        _require_current_directory()
        _refuse_empty(words)
    if not world().is_rank_zero and ctx.invoked_subcommand not in (*TRAINING, "embed"):
        raise typer.Exit  # what is not shared by several ranks is for rank 0 alone
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def _require_current_directory() -> None:
    try:
        Path.cwd()
    except OSError as error:
        message = f"The current directory cannot be found: {error.strerror}."
        raise UsageError(message, "Change to one that exists, such as: cd ~") from error


def _refuse_empty(words: Sequence[str]) -> None:
    """Refuse a word without a character: as a path it would mean the current folder."""
    for before, word in pairwise(words):
        if not word.strip() or re.fullmatch(r"--[\w-]+=\s*", word):
            place = word.rstrip("= ") or before
            raise UsageError(f"What is given behind {shown(place)} is empty.", "Was a variable of the shell not set?")


@functools.cache
def _command() -> Callable[..., Any]:
    return typer.main.get_command(app)


def main(args: Sequence[str] | None = None) -> int:
    """Run `sslcli` with these arguments, or the process's own, and return the exit code. Raises nothing."""
    words = list(sys.argv[1:] if args is None else args)
    _open_streams()
    try:
        returned = _command()(words, prog_name="sslcli", standalone_mode=False, obj=words)
        write_result("")  # flushes here, where a failure can still be reported
        return returned if isinstance(returned, int) else DONE
    except BrokenPipeError:
        return _reader_left()
    except SystemExit as end:  # typer ends so when a pipe breaks, and after shell completion
        if isinstance(end.__context__, BrokenPipeError):
            return _reader_left()
        return end.code if isinstance(end.code, int) else DONE
    except KeyboardInterrupt:
        return _stopped(Interrupted(stop_reason(signal.SIGINT), INTERRUPTED), words)
    except Interrupted as stop:
        return _stopped(stop, words)
    except Exception as error:
        if "--debug" in words or os.environ.get("SSLCLI_DEBUG", "0") != "0":
            _show_traceback()
        code = _report(_converted(error, words), as_json="--json" in words)
        with contextlib.suppress(ResourceError):
            write_result("")  # what stdout could not take would fail once more where Python ends
        return code


def _open_streams() -> None:
    """Replace closed streams, whose numbers the next opened file would get, and let all take any character."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        if hasattr(getattr(sys, name), "reconfigure"):  # a name that the terminal cannot show must not end a run
            getattr(sys, name).reconfigure(errors="backslashreplace")
    if not isinstance(sys.stderr, DisplayStream):
        sys.stderr = DisplayStream(sys.stderr)


def _reader_left() -> int:
    """End without an error where the reader of our output has closed it (`sslcli --help | head`)."""
    discard(1)
    return DONE


def _stopped(stop: Interrupted, words: Sequence[str]) -> int:
    """Report a run that was stopped before its first step, or twice; at a step's end the run reports it itself."""
    if "--json" in words and world().is_rank_zero:
        resumed = (*TRAINING, "pipeline", "study")
        again = "Continue with --resume." if {*resumed} & {*words[:1]} else "Run the same command again."
        return _write_error(stop.code, f"Stopped: {stop.reason}.", again)
    if world().is_rank_zero:
        sys.stderr.write(f"stopped: {stop.reason}\n")
    return stop.code


def _show_traceback() -> None:
    from ssl_cli.ui.text import safe

    sys.stderr.writelines(f"{safe(line)}\n" for line in traceback.format_exc().splitlines())


def _converted(error: Exception, words: Sequence[str]) -> SslcliError:
    """Convert any error to one of ours."""
    if isinstance(error, typer.Abort) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # typer takes every EOFError for a prompt left by Ctrl-D
    if isinstance(error, TyperException):  # a wrong command line
        return _command_line(error, words)
    return convert_exception(error)


def _command_line(error: TyperException, words: Sequence[str]) -> UsageError:
    """Convert typer's message to our form: a sentence; as the hint the closest word, or else the help to read."""
    sentence, meant = error.format_message(), ""
    for before, after in ((" (Possible options: ", ")"), (" Did you mean ", "?")):
        if before in sentence:
            sentence, _, rest = sentence.partition(before)
            meant = rest.removesuffix(after).strip("'")
    sentence = sentence.replace("Input should be", "it should be").partition(", unable to")[0].rstrip(".")
    meant = next(iter(getattr(error, "possibilities", None) or ()), meant)  # the closest of several
    if flag := getattr(error, "option_name", ""):  # typer counts the dashes, too, so that short names are alike
        meant = meant if closest(flag.lstrip("-"), [meant.lstrip("-")]) else ""
    if words and words[0] in SUGGESTIONS:
        return UsageError(f"{sentence}.", SUGGESTIONS[words[0]])
    return UsageError(f"{sentence}.", f"Did you mean {meant}?" if meant else _advice(error, words))


def _advice(error: TyperException, words: Sequence[str]) -> str:
    """Return what to try next about a command line in which no word is nearly right."""
    context, flag = getattr(error, "ctx", None), getattr(error, "option_name", "")
    command = next((word for word in words if word in {known.name for known in app.registered_commands}), "")
    if flag and command and context and context.parent is None:
        return f"Flags stand behind the command: sslcli {command} {flag}."
    if not command and words and is_folder(Path(words[0])):
        return f"To train on these images: sslcli pretrain {words[0]}"
    if key := _setting_called(flag, context):
        return f"That is a setting without a flag: --set {key}=VALUE."
    return f"See {context.command_path if context else f'sslcli {command}'.rstrip()} --help."


def _setting_called(flag: str, context: Any) -> str | None:
    """Return the setting named like a flag that does not exist, for a command that takes --set."""
    if not context or "set_" not in {param.name for param in context.command.params}:
        return None
    from ssl_cli.config.methods import method_settings
    from ssl_cli.config.tree import leaves
    from ssl_cli.registry import METHODS

    name = flag.lstrip("-").replace("-", "_")
    keys = [key for method in METHODS for key in leaves(method_settings(method)) if key.rpartition(".")[2] == name]
    return keys[0] if keys else None


def _write_error(code: int, message: str, hint: str) -> int:
    """Write the error as JSON; return its exit code, or that of a full disk where stdout does not take it."""
    from ssl_cli.ui.sinks import write_json

    try:
        write_json({"error": {"code": code, "message": message, "hint": hint}})
    except ResourceError as full:
        return full.code
    return code


def _report(error: SslcliError, *, as_json: bool) -> int:
    from ssl_cli.error_file import write_error_file
    from ssl_cli.ui.text import safe

    code, message, hint = error.code, safe(error.message), safe(error.hint or error.otherwise)
    caused = isinstance(error, RankError)  # another rank is the cause
    if world().launched and (caused or not world().is_rank_zero):
        pass  # the launcher reports it
    elif as_json and world().is_rank_zero:
        code = _write_error(code, message, hint)
    elif not caused or world().is_rank_zero:
        who = "" if world().is_rank_zero else f"rank {world().rank}: "
        sys.stderr.write(f"{who}error: {message}\n  {hint}\n")
        sys.stderr.flush()
    write_error_file(error)
    return code
