"""Which tests run over the reference transport as well.

tests/parity holds both transports against each other. Other tests run over our own, and a few of each kind, which are
marked `grpcio`, over both.
"""

import pytest


def choose_transports(metafunc: pytest.Metafunc, *fixtures: str) -> None:
    """Give those of the fixtures that a test uses the names of its transports, as pytest_generate_tests may."""
    given: set[str] = set()
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0]
        given.update(map(str.strip, names.split(",")) if isinstance(names, str) else names)
    for name in fixtures:
        if name in metafunc.fixturenames and name not in given:
            both = metafunc.definition.get_closest_marker("grpcio")
            metafunc.parametrize(name, ["uv", "grpcio"] if both else ["uv"], indirect=True)
