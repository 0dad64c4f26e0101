"""bbr: a body-based router for Envoy (an ext_proc server that routes requests by the model their body names)."""

__version__ = "0.1.0"
