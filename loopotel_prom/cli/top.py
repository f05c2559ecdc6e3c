"""The command `loopotel-prom top`: the runs under way, in a terminal."""

import json
import shutil
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from loopotel_prom.board.view import Overview
from loopotel_prom.cli.terminal import echo_safe, escaped, is_terminal
from loopotel_prom.cli.top_state import SORTS, WORST, TopState
from loopotel_prom.cli.top_view import keys, lines
from loopotel_prom.errors import ConfigError, LoopotelError
from loopotel_prom.settings import DEFAULT_LISTEN

if TYPE_CHECKING:
    from loopotel_prom.cli.top_source import Source

_DEFAULT_SECONDS = 2.0
# Reading what is large takes no more than a fifth of the time.
_PATIENCE = 4.0
# How soon a changed size of the terminal is noticed.
_REDRAW_SECONDS = 1.0


def top(
    target: Annotated[
        str,
        typer.Argument(
            metavar="[URL | DIR]",
            help="An endpoint, or the folder of an archive.",
        ),
    ] = f"http://{DEFAULT_LISTEN}",
    *,
    interval: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=86_400.0,
            help="Seconds from one look to the next, 2; without a terminal, go on.",
        ),
    ] = None,
    sort: Annotated[
        str,
        typer.Option(help="Order: worst, score, LES, tokens, cost or age."),
    ] = "worst",
    pattern: Annotated[
        str, typer.Option("--filter", help="Only runs with this in their names.")
    ] = "",
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object a look.")
    ] = False,
) -> None:
    """
    Watch the runs under way: how far each is, whether it stalls, what it burns.

    Keys: s, l, t, c, a sort by score, LES, tokens, cost, age; w is worst first; /
    filters; q quits. Without a terminal, plain text, once.
    """
    # Here, not above: a client of HTTP is slow to import.
    from loopotel_prom.cli.top_source import source_of  # noqa: PLC0415

    state = TopState(sort=_key_of(sort), filter=pattern)
    live = is_terminal(sys.stdout) and is_terminal(sys.stdin)
    with closing(source_of(target)) as source:
        if live and not once and not as_json:
            _watch(source, state, interval or _DEFAULT_SECONDS)
        else:
            pause = None if once else interval
            _print_all(source, state, pause, as_json=as_json)


def _key_of(sort: str) -> str:
    names = {name.lower(): key for key, (name, _) in SORTS.items()}
    names["worst"] = WORST
    if sort.lower() not in names:
        raise ConfigError(f"--sort {sort}: choose of {', '.join(names)}")
    return names[sort.lower()]


def _print_all(
    source: "Source", state: TopState, interval: float | None, *, as_json: bool
) -> None:
    """Print the runs once, or again and again."""
    while True:
        _print(source.read(), state, source.name, as_json=as_json)
        if interval is None:
            return
        time.sleep(interval)
        if not as_json:
            echo_safe("")


def _print(seen: Overview, state: TopState, name: str, *, as_json: bool) -> None:
    if as_json:
        active = [*state.arranged(seen)]
        seen = msgspec.structs.replace(seen, active=active)
        # ASCII, so that no text in it can break the terminal or pipe.
        echo_safe(json.dumps(msgspec.to_builtins(seen)))
    else:
        for line in lines(seen, state, name=escaped(name)):
            echo_safe(line)
    sys.stdout.flush()


def _watch(source: "Source", state: TopState, interval: float) -> None:
    """Show the runs, and take keys, until there has been enough."""
    # Here, not above: half a second to import, and no terminals elsewhere.
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from loopotel_prom.cli.top_keys import Keys  # noqa: PLC0415

    look = _Look(source, interval)
    console = Console()
    with (
        Live(
            console=console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
        ) as live,
        Keys() as keyboard,
    ):
        try:
            while not state.is_over:
                look.again_if_due()
                live.update(
                    Text.from_ansi(look.drawn(state), no_wrap=True), refresh=True
                )
                key = keyboard.read(min(look.wait_seconds(), _REDRAW_SECONDS))
                for each in _typed(key):
                    state.press(each)
        except (KeyboardInterrupt, EOFError):
            return


def _typed(key: str) -> str:
    """Take what is typed; an arrow, which is several characters, is nothing."""
    return "" if len(key) > 1 and key.startswith("\x1b") else key


class _Look:
    """
    The latest look at the runs.

    Raises:
        LoopotelError: The first one fails; later ones are told of, and go on.
    """

    def __init__(self, source: "Source", interval: float) -> None:
        self._source = source
        self._interval = interval
        self._error = ""
        self._due = 0.0
        self._seen = self._read()

    def _read(self) -> Overview:
        begin = time.monotonic()
        seen = self._source.read()
        end = time.monotonic()
        self._due = end + max(self._interval, _PATIENCE * (end - begin))
        return seen

    def again_if_due(self) -> None:
        """Look again, if it is time."""
        if time.monotonic() < self._due:
            return
        try:
            self._seen = self._read()
            self._error = ""
        except (LoopotelError, OSError) as error:
            self._error = str(error)
            self._due = time.monotonic() + self._interval

    def wait_seconds(self) -> float:
        """Give how long it is until the next look."""
        return max(self._due - time.monotonic(), 0.0)

    def drawn(self, state: TopState) -> str:
        """Draw what was seen, to fit the terminal."""
        size = shutil.get_terminal_size()
        body = lines(
            self._seen,
            state,
            name=escaped(self._source.name),
            error=escaped(self._error),
            rows=size.lines,
            width=size.columns,
        )
        return "\n".join((*body, "", keys(state)))
