"""Keys of a terminal, one by one, without Enter."""

import os
import select
import sys
import termios
import tty
from typing import Self


class Keys:
    """Reads keys from standard input while the with block lasts."""

    def __enter__(self) -> Self:
        self._file = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._file)
        tty.setcbreak(self._file)
        return self

    def __exit__(self, *_: object) -> None:
        termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)

    def read(self, timeout_seconds: float) -> str:
        """
        Wait for keys; none if there are none in time.

        Arrows and the like come as several characters, which begin with Escape.

        Raises:
            EOFError: The terminal is gone.
        """
        if not select.select([self._file], [], [], max(timeout_seconds, 0.0))[0]:
            return ""
        data = os.read(self._file, 64)
        if not data:
            raise EOFError
        return data.decode(errors="ignore")
