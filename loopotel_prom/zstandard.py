"""Zstandard: of Python itself from 3.14 on, of its backport before."""

import sys

__all__ = ["zstd"]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd
