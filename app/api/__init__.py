"""The HTTP API under `/v1`, with routes for health, metrics and files."""
