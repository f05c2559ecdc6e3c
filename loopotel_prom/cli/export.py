"""The commands `loopotel-prom export ...`, put together."""

import typer

from loopotel_prom.cli.export_loopnet import loopnet
from loopotel_prom.cli.export_openmetrics import openmetrics
from loopotel_prom.cli.export_otlp import otlp
from loopotel_prom.cli.export_parquet import parquet
from loopotel_prom.cli.export_remote_write import remote_write

export = typer.Typer(
    name="export",
    help="Turn the runs of an archive into what other tools read.",
    no_args_is_help=True,
)

export.command()(loopnet)
export.command()(openmetrics)
export.command()(otlp)
export.command()(parquet)
export.command("remote-write")(remote_write)
