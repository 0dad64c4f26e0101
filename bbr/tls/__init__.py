"""Certificates, client certificates and TLS sessions."""
