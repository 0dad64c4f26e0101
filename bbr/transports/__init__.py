"""Carries exchanges between a gateway and the core."""
