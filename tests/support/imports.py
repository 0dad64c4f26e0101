"""What a source text imports, for rules about it."""

import ast
import functools


@functools.cache
def imports(source: str) -> frozenset[str]:
    """Return the full names of all that a source text imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def forbidden(imported: frozenset[str], names: set[str]) -> set[str]:
    """Return what of the imported names is one of `names`, or below one."""
    return {each for each in imported if any(f"{each}.".startswith(f"{name}.") for name in names)}
