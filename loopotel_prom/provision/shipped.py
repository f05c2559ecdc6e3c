"""Shipped files: what comes with the package and is no code."""

from pathlib import Path


def shipped(name: str) -> Path:
    """
    Give a folder that comes with the package: ``deploy``, ``dashboards``.

    A wheel carries it within the package, a checkout beside it. It may be absent.
    """
    package = Path(__file__).parents[1]
    installed = package / name
    return installed if installed.is_dir() else package.parent / name
