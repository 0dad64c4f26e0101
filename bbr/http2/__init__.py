"""A sans-IO HTTP/2 server side (RFC 9113): bytes in, events and bytes out."""
