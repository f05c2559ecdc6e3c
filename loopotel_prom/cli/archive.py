"""The commands `loopotel-prom archive ...`, put together."""

import typer

from loopotel_prom.cli.archive_ls import ls
from loopotel_prom.cli.archive_show import show
from loopotel_prom.cli.archive_stats import stats

archive = typer.Typer(
    name="archive",
    help="Look into an archive, check it, and keep it in order.",
    no_args_is_help=True,
)

for _command in (ls, show, stats):
    archive.command()(_command)
