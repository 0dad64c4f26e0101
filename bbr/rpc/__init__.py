"""gRPC over HTTP/2, the server side, without I/O."""
