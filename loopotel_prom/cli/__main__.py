"""``python -m loopotel_prom.cli``, where the command is not on the PATH."""

from loopotel_prom.cli import main

main()
