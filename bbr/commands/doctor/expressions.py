"""Tells whether a regular expression of a gateway's configuration matches a name: by RE2, as Envoy does.

Pure. Python's `re` knows another language, and some expressions take it for ever. Anybody who may write an object of
the cluster may have written the expression; RE2 takes time in proportion to the text.
"""

from typing import Any, Final

try:
    import re2
except ImportError:  # the extra `doctor`
    re2 = None

# Longer ones are not evaluated. RE2 may take this much memory for one, and rejects what would take more.
MAX_CHARACTERS: Final = 1024
MAX_COMPILED_BYTES: Final = 1 << 20


class NotEvaluatedError(Exception):
    """An expression is too long, RE2 rejects it, or RE2 is not installed; the message says which."""


def matches(expression: str, text: str) -> bool:
    """Tell whether an expression matches a whole text.

    Raises:
        NotEvaluatedError: see there.
    """
    if re2 is None:
        raise NotEvaluatedError("RE2 is not installed: pip install 'body-based-router[doctor]'")
    if len(expression) > MAX_CHARACTERS:
        raise NotEvaluatedError(f"longer than {MAX_CHARACTERS:,} characters")
    try:
        return re2.compile(expression, _options()).fullmatch(text) is not None
    except re2.error:
        raise NotEvaluatedError(f"RE2 rejects it, or needs more than {MAX_COMPILED_BYTES >> 20} MiB for it") from None


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_COMPILED_BYTES
    options.never_capture = True
    return options
