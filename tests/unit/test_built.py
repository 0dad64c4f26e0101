from pathlib import Path

from bbr import built
from bbr.exchange import exchange


def test_it_is_told_by_the_modules_of_the_core() -> None:
    assert Path(exchange.__file__).suffix == (".so" if built.COMPILED else ".py")
    assert (built.HOW == "compiled") is built.COMPILED
