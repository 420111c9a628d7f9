"""The command line: thin calls into the rooms above, one clear line for every error."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Any

import typer

from capacity import __version__, files
from capacity.cli import (
    alerts,
    check,
    cluster,
    compare,
    fleet,
    launch,
    levers,
    limits,
    plan,
    rollback,
    runs,
    score,
    size,
    soak,
    streams,
    sweep,
    table,
    typed,
    watch,
    what_if,
)
from capacity.cli.options import FLAG
from capacity.errors import CapacityError, InterruptedRunError

app = typer.Typer(
    name="capacity",
    help="Plan and prove the capacity of a Temporal batch scheduler.\n\nExample: capacity plan --cpus 32",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"capacity {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", metavar=FLAG, is_eager=True, callback=_print_version, help="Print the version."),
    ] = False,
) -> None:
    """Hold the options that no command is needed for."""


app.command("table")(table.table)
app.command("plan")(plan.plan)
app.command("limits")(limits.limits)
app.command("size")(size.size)
app.command("what-if")(what_if.what_if)
app.add_typer(cluster.app, name="cluster")
app.command("launch")(launch.launch)
app.add_typer(fleet.app, name="fleet")
app.command("watch")(watch.watch)
app.command("sweep")(sweep.sweep)
app.command("score")(score.score)
app.command("compare")(compare.compare)
app.command("soak")(soak.soak)
app.command("levers")(levers.levers)
app.add_typer(runs.app, name="runs")
app.command("alerts")(alerts.alerts)
app.command("rollback")(rollback.rollback)
app.command("check")(check.check)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit; README.md says with which code."""
    streams.prepare()
    code = run(arguments)
    if "temporalio.bridge.temporal_sdk_bridge" in sys.modules:
        # The SDK's runtime can crash in the interpreter's own exit (temporalio/sdk-python#300).
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; every error becomes one line on standard error and the code that goes with it."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        typed.check_words(words)
        code = command()(args=words, prog_name="capacity", standalone_mode=False)
        sys.stdout.flush()
    except CapacityError as error:
        return _fail(typed.with_options(str(error), words, command()), error.exit_code)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        if not error.format_message():  # the help was asked for and is printed
            return error.exit_code
        hint = f"; see '{context.command_path} --help'" if context else ""
        return _fail(_plain(error.format_message()) + _given(error) + hint, error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted", InterruptedRunError.exit_code)
    except BrokenPipeError:
        _drop_output()
        return 1
    except OSError as error:  # of whatever file nobody foresaw: a full disk, another user's folder
        return _fail(files.said_by_the_machine(error), 1)
    return code if isinstance(code, int) else 0


@cache
def command() -> Callable[..., Any]:
    """Build all commands, once a process."""
    return typer.main.get_command(app)


def _plain(message: str) -> str:
    """Return a parser's message in our words."""
    for kind, words in (("integer", "must be a whole number"), ("number", "must be a number")):
        message = re.sub(rf"Input should be a valid {kind}.*", words, message)
    return message.replace("Value error, ", "").rstrip(".")


def _given(error: BaseException) -> str:
    """Return the value a parser refused, which its own message leaves out."""
    cause = error.__cause__ or error.__context__
    problems = getattr(cause, "errors", None)
    given = repr(problems()[0]["input"]) if callable(problems) else ""
    return f", not {given}" if given and given not in str(error) else ""


def _drop_output() -> None:
    """Have standard output take what is left and show it nowhere: the interpreter flushes it once more at its exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
    print(f"capacity: {' '.join(message.split())}", file=sys.stderr)
    return code
