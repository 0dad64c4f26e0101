"""Which models there are, and what a name resolves to. Pure."""
