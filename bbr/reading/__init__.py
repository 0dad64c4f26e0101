"""Reads a body for its model while it arrives. Each kind of body has its own Reading. Sans-IO."""
