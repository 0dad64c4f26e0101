"""Small interfaces to the operating system and the C library. Imports nothing else of bbr."""
