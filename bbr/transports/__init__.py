"""What carries exchanges between a gateway and the core."""
