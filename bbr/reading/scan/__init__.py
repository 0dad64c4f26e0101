"""Reading long bodies piece by piece. Sans-IO."""
