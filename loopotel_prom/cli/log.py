"""The log of a command that serves: lines on standard error, as exporters do it."""

import json
import logging
import time
from enum import StrEnum

_PLAIN = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:+[]%"
)


class LogLevel(StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a line is spelled."""

    LOGFMT = "logfmt"
    JSON = "json"


def start_log(level: LogLevel, spelling: LogFormat) -> None:
    """Log to standard error from now on."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(spelling))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel({"warn": "WARNING"}.get(level, level.upper()))


class _Formatter(logging.Formatter):
    def __init__(self, spelling: LogFormat) -> None:
        super().__init__()
        self._spelling = spelling

    def format(self, record: logging.LogRecord) -> str:
        """Spell a line: time, level, source and message, without a line break."""
        message = record.getMessage()
        if record.exc_info:
            message += f": {self.formatException(record.exc_info)}"
        level = "WARN" if record.levelname == "WARNING" else record.levelname
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = {
            "time": f"{seconds}.{record.msecs:03.0f}Z",
            "level": level,
            "source": f"{record.filename}:{record.lineno}",
            "msg": message,
        }
        if self._spelling is LogFormat.JSON:
            return json.dumps(fields, ensure_ascii=False)
        return " ".join(f"{name}={_quoted(text)}" for name, text in fields.items())


def _quoted(text: str) -> str:
    if text and _PLAIN.issuperset(text):
        return text
    return json.dumps(text, ensure_ascii=False)
