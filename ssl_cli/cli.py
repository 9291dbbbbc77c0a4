"""The program `sslcli`: its commands, and what becomes of every error.

Nothing here imports torch: a command's body does, once its words are understood.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from ssl_cli.commands import export, inspect_augs, knn_eval, linear_eval, options, pretrain
from ssl_cli.errors import DONE, INTERRUPTED, SslcliError, UsageError, understood

app = typer.Typer(
    name="sslcli",
    help="Contrastive self-supervised pretraining of image encoders.",
    epilog=options.examples(
        "Train on the embedded images: sslcli pretrain --out runs/first",
        "See how good it is: sslcli knn-eval runs/first --baselines",
        "Take it with you: sslcli export runs/first -o encoder.onnx",
    ),
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command("pretrain", epilog=pretrain.EPILOG, rich_help_panel="Train")(pretrain.pretrain)
app.command("inspect-augs", epilog=inspect_augs.EPILOG, rich_help_panel="Train")(inspect_augs.inspect_augs)
app.command("knn-eval", epilog=knn_eval.EPILOG, rich_help_panel="Measure")(knn_eval.knn_eval)
app.command("linear-eval", epilog=linear_eval.EPILOG, rich_help_panel="Measure")(linear_eval.linear_eval)
app.command("export", epilog=export.EPILOG, rich_help_panel="Use")(export.export)


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
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def main(args: Sequence[str] | None = None) -> int:
    """Run `sslcli` with these arguments, or the process's own; the exit code. Raises nothing."""
    words = list(sys.argv[1:] if args is None else args)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show must not end a run
    try:
        return _outcome(typer.main.get_command(app)(words, prog_name="sslcli", standalone_mode=False))
    except BrokenPipeError:
        return _reader_left()
    except SystemExit as end:  # typer ends so when a pipe breaks, and after shell completion
        if isinstance(end.__context__, BrokenPipeError):
            return _reader_left()
        return _outcome(end.code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if "--debug" in words or os.environ.get("SSLCLI_DEBUG"):
            traceback.print_exc()
        return _report(_understood(error), as_json="--json" in words)


def _outcome(returned: Any) -> int:
    return returned if isinstance(returned, int) else DONE


def _reader_left() -> int:
    """Whoever read our output has seen enough (`sslcli --help | head`): no error, and nothing more to flush."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return DONE


def _understood(error: Exception) -> SslcliError:
    """Any error as one of ours."""
    if isinstance(error, typer.Abort) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # typer takes every EOFError for a prompt left by Ctrl-D
    if isinstance(error, TyperException):  # what typer says of a wrong command line
        return _command_line(error)
    return understood(error)


def _command_line(error: TyperException) -> UsageError:
    """Typer's message in our form: a sentence, then the closest word there is."""
    sentence, meant = error.format_message(), ""
    for before, after in ((" (Possible options: ", ")"), (" Did you mean ", "?")):
        if before in sentence:
            sentence, _, rest = sentence.partition(before)
            meant = rest.removesuffix(after).strip("'")
    sentence = sentence.replace("Input should be", "it should be").partition(", unable to")[0].rstrip(".")
    return UsageError(f"{sentence}.", f"Did you mean {meant}?" if meant else "See sslcli COMMAND --help.")


def _report(error: SslcliError, *, as_json: bool) -> int:
    from ssl_cli.ui.text import safe

    if as_json:
        from ssl_cli.ui.sinks import write_json

        write_json({"error": {"code": error.code, "message": error.message, "hint": error.hint}})
    else:
        sys.stderr.write(f"error: {safe(error.message)}\n" + (f"  {safe(error.hint)}\n" if error.hint else ""))
    return error.code
