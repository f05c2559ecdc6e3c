"""JSON values without the secrets in them, and the list of what was taken out."""

import json
import re
from collections.abc import Mapping
from typing import Any

from loopotel_prom.exporter.redaction.names import is_secret
from loopotel_prom.exporter.redaction.scanner import MARK, Scanner

_SIMPLE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_BLOCK = re.compile(r"-----(BEGIN|END) [A-Z0-9 ]*PRIVATE KEY")
# Of `{"name": "API_KEY", "value": "..."}`, as lists of variables have it.
_NAMING = ("name", "key", "field", "header", "variable", "env")
_NAMED = ("value", "val", "default", "content")
_DEEPEST = 64


class Removed(list[str]):
    """Where something was taken out, as paths, each once and in order."""

    def add(self, path: str) -> None:
        """Note a place."""
        if path not in self:
            self.append(path)


def redacted(value: Any, path: str, scanner: Scanner, removed: Removed) -> Any:
    """
    Copy a JSON value without what is secret in it; the places go to `removed`.

    Beyond 64 levels everything counts as secret. A key is scanned as any text;
    what a secret name stands for goes, whatever it looks like.
    """
    return _Copy(scanner, removed).of(value, path, 0)


class _Copy:
    def __init__(self, scanner: Scanner, removed: Removed) -> None:
        self._scanner = scanner
        self._removed = removed

    def of(self, value: Any, path: str, depth: int) -> Any:
        if isinstance(value, str):
            return self._text(value, path)
        if isinstance(value, Mapping):
            return self._mapping(value, path, depth)
        if isinstance(value, list | tuple):
            return self._list(value, path, depth)
        return value

    def _text(self, value: str, path: str) -> str:
        clean = self._scanner.clean(value)
        if clean != value:
            self._removed.add(path)
        return clean

    def _gone(self, value: Any, path: str) -> Any:
        """Take a whole value out; there is no secret in a truth value."""
        if value is None or isinstance(value, bool) or value in ("", MARK):
            return value
        self._removed.add(path)
        return MARK

    def _mapping(self, value: Mapping[str, Any], path: str, depth: int) -> Any:
        if depth >= _DEEPEST:
            return self._gone(value, path)
        copy: dict[str, Any] = {}
        names_secret = any(
            isinstance(said := value.get(key), str) and is_secret(said)
            for key in _NAMING
        )
        for key, item in value.items():
            name = self._free_name(self._scanner.clean(key), copy)
            place = _below(path, name)
            if name != key:
                self._removed.add(place)
            if is_secret(key) or (names_secret and key.lower() in _NAMED):
                copy[name] = self._gone(item, place)
            else:
                copy[name] = self.of(item, place, depth + 1)
        return copy

    @staticmethod
    def _free_name(name: str, taken: Mapping[str, Any]) -> str:
        """Tell two keys apart that have become the same."""
        free, number = name, 1
        while free in taken:
            number += 1
            free = f"{name} {number}"
        return free

    def _list(self, value: list[Any] | tuple[Any, ...], path: str, depth: int) -> Any:
        if depth >= _DEEPEST:
            return self._gone(value, path)
        copy: list[Any] = []
        is_named = is_in_block = False
        for index, item in enumerate(value):
            place = f"{path}[{index}]"
            text = item if isinstance(item, str) else ""
            mark = _BLOCK.search(text)
            if is_named or is_in_block:
                copy.append(self._gone(item, place))
            else:
                copy.append(self.of(item, place, depth + 1))
            # `["--password", "..."]`; a private key by its lines.
            is_in_block = mark[1] == "BEGIN" if mark else is_in_block
            is_named = " " not in text and is_secret(text) and not is_named
        return copy


def _below(path: str, name: str) -> str:
    if _SIMPLE.fullmatch(name):
        return f"{path}.{name}"
    return f"{path}[{json.dumps(name, ensure_ascii=False)}]"
