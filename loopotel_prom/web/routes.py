"""Routes: which view answers for which path."""

import re
from collections.abc import Callable

from loopotel_prom.web.message import Request, Response

View = Callable[[Request], Response]

# What a path may name: no separator, nothing hidden, no way up.
_NAME = r"(?P<{}>[A-Za-z0-9_-][A-Za-z0-9._-]{{0,127}})"


class Routes:
    """A table of paths and their views; a later route of the same path wins."""

    def __init__(self) -> None:
        self._exact: dict[str, View] = {}
        self._patterns: dict[str, tuple[re.Pattern[str], View]] = {}

    def add(self, pattern: str, view: View) -> None:
        """
        Have a view answer for a path.

        Args:
            pattern: A path: ``/runs``, or with parameters: ``/runs/{trace_id}``. A
                parameter holds letters, digits and ``._-``, up to 128, and does not
                begin with a dot; the view finds it in `Request.parameters`.
            view: Called from several threads at once. It is asked for ``HEAD`` too,
                where its body is not sent.
        """
        if "{" not in pattern:
            self._exact[pattern] = view
            return
        literals = re.split(r"\{(\w+)\}", pattern)
        expression = "".join(
            _NAME.format(part) if place % 2 else re.escape(part)
            for place, part in enumerate(literals)
        )
        self._patterns[pattern] = (re.compile(expression), view)

    def find(self, path: str) -> tuple[View, dict[str, str]] | None:
        """Give the view for a path and the path's parameters, if there is one."""
        exact = self._exact.get(path)
        if exact is not None:
            return exact, {}
        for expression, view in self._patterns.values():
            match = expression.fullmatch(path)
            if match is not None:
                return view, match.groupdict()
        return None
