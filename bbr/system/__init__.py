"""What the operating system and the C library give, behind small interfaces. Imports nothing of ours."""
