"""
All commands, and how they end.

Exit codes: 0 good, 1 bad data, 2 bad usage, and those of a signal. An error is one
line on standard error; errors become lines and codes here and nowhere else.
"""

import io
import sys
from typing import Annotated

import typer

from loopotel_prom.cli.archive import archive
from loopotel_prom.cli.demo import demo
from loopotel_prom.cli.ending import READER_GONE, unwind_when_terminated
from loopotel_prom.cli.export import export
from loopotel_prom.cli.provision import provision
from loopotel_prom.cli.replay import replay
from loopotel_prom.cli.rescore import rescore
from loopotel_prom.cli.serve import serve
from loopotel_prom.cli.terminal import echo
from loopotel_prom.cli.top import top
from loopotel_prom.cli.validate import validate
from loopotel_prom.errors import ConfigError, LoopotelError, MissingExtraError
from loopotel_prom.version import __version__

__all__ = ["app", "run"]

app = typer.Typer(
    name="loopotel-prom",
    help="Live metrics and traces of LLM-agent loops, for Prometheus and Grafana.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - Typer calls it so
    if wanted:
        typer.echo(f"loopotel-prom {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Live metrics and traces of LLM-agent loops, for Prometheus and Grafana."""


app.command()(demo)
app.command()(provision)
app.command()(rescore)
app.command()(serve)
app.command()(replay)
app.command()(top)
app.command()(validate)
app.add_typer(archive)
app.add_typer(export)


def run() -> None:
    """Run a command; exits the process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that has no arrow still gets its line.
            stream.reconfigure(errors="replace")
    unwind_when_terminated()
    try:
        app()
    except LoopotelError as error:
        _fail(
            str(error), 2 if isinstance(error, ConfigError | MissingExtraError) else 1
        )
    except OSError as error:
        _fail(f"{error.filename or 'output'}: {error.strerror or error}", 1)
    except SystemExit as ending:
        # Of an output that is read no further, Typer makes a 1.
        if isinstance(ending.__context__, BrokenPipeError):
            sys.exit(READER_GONE)
        raise


def _fail(message: str, code: int) -> None:
    echo(f"loopotel-prom: {message}", err=True)
    sys.exit(code)
