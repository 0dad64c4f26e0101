"""The zstd library: the standard library's from Python 3.14 on, its backport before. Both have the same names."""

import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["zstd"]
