"""The admin port: metrics, health, debug pages."""
