"""One HTTP request's ext_proc conversation, and the messages it is answered with. Sans-IO."""
