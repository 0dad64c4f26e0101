"""Whether this is the interpreted or the compiled build; see docs/design/compiling.md."""

from typing import Final

from bbr import pieces

# A module of the core: in the compiled build it is an extension.
COMPILED: Final = not pieces.__file__.endswith(".py")

# For people, logs and metrics.
HOW: Final = "compiled" if COMPILED else "interpreted"
