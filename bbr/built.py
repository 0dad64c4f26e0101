"""Whether this is the interpreted or the compiled build; see docs/design/compiling.md."""

from typing import Final

from bbr.http2 import frames

# A module of the core: in the compiled build it is an extension.
COMPILED: Final = not frames.__file__.endswith(".py")

# For people, logs and metrics.
HOW: Final = "compiled" if COMPILED else "interpreted"
