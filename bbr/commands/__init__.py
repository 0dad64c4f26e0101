"""The commands of `bbr`: one module or package for each."""
