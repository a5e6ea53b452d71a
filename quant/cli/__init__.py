"""The command line, `quant` and `python -m quant`: parses, calls, prints. Bad input is one line on stderr and exit
code 2; a regression that `quant diff` finds is exit code 1. One file per command.

What can be refused without a model is refused before one is looked for.
"""

import sys
from typing import Annotated, Any

import typer

from quant.cli.compare import compare_command
from quant.cli.convert import convert_command
from quant.cli.diff import diff_command
from quant.cli.inspect import inspect_command
from quant.cli.quantize import quantize_command
from quant.cli.sensitivity import sensitivity_command
from quant.cli.study import study_command
from quant.errors import QuantError
from quant.evaluate.processes import Processes, joined
from quant.version import __version__

app = typer.Typer(
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
USAGE_ERROR: Any = typer.BadParameter.__base__
"""click's UsageError, of whichever click this typer brings with it: everything that its parser refuses."""
INTERRUPTED = 130
"""What typer makes of Ctrl-C: the exit code of a shell's command that SIGINT ended."""


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Quantize language models, and measure what that does to them."""
    if version:
        typer.echo(f"quant {__version__}")
        raise typer.Exit()
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)
    if context.obj.size > 1 and context.invoked_subcommand != "compare":
        raise QuantError(
            f"quant {context.invoked_subcommand} is work for one process, and there are {context.obj.size}: start it "
            "without accelerate launch"
        )


app.command("compare")(compare_command)
app.command("convert")(convert_command)
app.command("diff")(diff_command)
app.command("inspect")(inspect_command)
app.command("quantize")(quantize_command)
app.command("sensitivity")(sensitivity_command)
app.command("study")(study_command)


def main() -> None:
    """Entry point of the console script. Of the processes of an `accelerate launch` the main one speaks, and all end
    together, with the same code.
    """
    try:
        with joined() as processes:
            code, message = _run(processes)
            if processes.main:
                _tell(message)
            code = processes.end(code)
            processes.leave(code)
    except QuantError as error:
        # A launcher that does not say which process this is: each tells of it.
        _tell(str(error))
        code = 2
    raise SystemExit(code)


def _tell(message: str) -> None:
    """Write `message`, if any, in one line."""
    if message:
        sys.stderr.write(f"quant: {' '.join(message.split())}\n")
        sys.stderr.flush()


def _run(processes: Processes) -> tuple[int, str]:
    """The command's exit code, and what there is to say about it."""
    try:
        code = app(standalone_mode=False, prog_name="quant", obj=processes)
    except QuantError as error:
        return 2, str(error)
    except USAGE_ERROR as error:
        return 2, f"{error.format_message().rstrip('.')}: see {error.ctx.command_path if error.ctx else 'quant'} --help"
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            raise
        return 1, ""
    return (code if isinstance(code, int) else 0), "interrupted" if code == INTERRUPTED else ""
