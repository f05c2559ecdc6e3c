"""The commands `loopotel-prom archive ...`, put together."""

import typer

from loopotel_prom.cli.archive_compact import compact
from loopotel_prom.cli.archive_ls import ls
from loopotel_prom.cli.archive_recover import recover_runs
from loopotel_prom.cli.archive_show import show
from loopotel_prom.cli.archive_stats import stats
from loopotel_prom.cli.archive_verify import verify

archive = typer.Typer(
    name="archive",
    help="Look into an archive, check it, and keep it in order.",
    no_args_is_help=True,
)

for _command in (ls, show, stats, verify, compact):
    archive.command()(_command)
archive.command("recover")(recover_runs)
