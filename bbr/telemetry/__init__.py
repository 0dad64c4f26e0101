"""What is counted, logged and traced for each exchange."""
