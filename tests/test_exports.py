"""What each module says it exports, and what is really there."""

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

import loopotel_prom

_NAMES = [
    "loopotel_prom",
    *(
        module.name
        for module in pkgutil.walk_packages(loopotel_prom.__path__, "loopotel_prom.")
        if not module.name.endswith("__main__")
    ),
]


def _order(name: str) -> tuple[int, str]:
    """Sort as ruff does (RUF022): constants, then classes, then the rest."""
    rank = 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2
    return rank, name


@pytest.fixture(params=_NAMES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    """Give each module of the package in turn."""
    return importlib.import_module(request.param)


def test_all_is_sorted_without_repeats(module: ModuleType) -> None:
    """`__all__` reads as an index."""
    exported = list(getattr(module, "__all__", ()))
    assert exported == sorted(set(exported), key=_order)


def test_every_exported_name_exists(module: ModuleType) -> None:
    """Nothing in `__all__` is a promise only."""
    absent = [n for n in getattr(module, "__all__", ()) if not hasattr(module, n)]
    assert not absent, f"{module.__name__}.__all__ names {absent}"


def test_the_top_is_an_index() -> None:
    """`loopotel_prom/__init__.py` has an `__all__` and fits on one screen."""
    source = Path(loopotel_prom.__file__).read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 50
    assert loopotel_prom.__all__
