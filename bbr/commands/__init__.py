"""What `bbr` does beside serving: one module or package for each command."""
