"""The command line, `loopotel-prom`."""

import sys

__all__ = ["main"]

_INTERRUPTED = 130


def main() -> None:
    """Run the command line; exits the process."""
    try:
        # Not above: it takes half a second, within which Ctrl-C is no error either.
        from loopotel_prom.cli.commands import run  # noqa: PLC0415

        run()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
