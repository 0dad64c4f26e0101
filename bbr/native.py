"""How the compiler is told about classes; an interpreter is told nothing. See docs/design/compiling.md.

`free_list_len=1` keeps the memory of the object that was freed last for the next one of its class. While an object is
freed none of its class may be made: so it is for classes whose objects hold nothing that runs code when it is freed.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

C = TypeVar("C")

if TYPE_CHECKING:
    # By this name the compiler knows it. It is no dependency: nobody but a type checker reads this line.
    from mypy_extensions import mypyc_attr as mypyc_attr
else:

    def mypyc_attr(**_attributes: object) -> Callable[[C], C]:
        """Leave a class as it is."""
        return lambda cls: cls
