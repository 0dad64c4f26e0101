"""`bbr doctor`: finds what in a gateway's configuration and statistics breaks body-based routing."""
