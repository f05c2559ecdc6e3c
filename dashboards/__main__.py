"""
Write the boards' JSON beside this file, or check that it is what is built.

::

    python -m dashboards [--check]
"""

import json
import sys
from pathlib import Path

from dashboards import cost, exporter, fleet, loops

_HERE = Path(__file__).parent


def built() -> dict[str, str]:
    """Give the text of each board's file, by file name."""
    boards = [module.build() for module in (fleet, loops, cost, exporter)]
    return {
        f"{board['uid']}.json": json.dumps(board, indent=2, ensure_ascii=False) + "\n"
        for board in boards
    }


def main(arguments: list[str]) -> int:
    """Write or check; return the exit code."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m dashboards [--check]", file=sys.stderr)
        return 2
    stale = {
        name: text
        for name, text in built().items()
        if not (_HERE / name).exists()
        or (_HERE / name).read_text(encoding="utf-8") != text
    }
    for name, text in stale.items():
        if arguments:
            print(f"dashboards/{name} is stale: run `make dashboards`", file=sys.stderr)
        else:
            (_HERE / name).write_text(text, encoding="utf-8")
    return 1 if arguments and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
