"""The commands `loopotel-prom export ...`, put together."""

import typer

from loopotel_prom.cli.export_loopnet import loopnet

export = typer.Typer(
    name="export",
    help="Turn the runs of an archive into what other tools read.",
    no_args_is_help=True,
)

export.command()(loopnet)
