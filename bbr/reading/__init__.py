"""How a body is read for its model while it comes: one Reading for each kind of body. Sans-IO."""
