"""`bbr doctor`: what in a gateway's configuration and statistics keeps body-based routing from working."""
