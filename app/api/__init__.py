"""The HTTP API under `/v1`, with its health, metrics and file routes beside it."""
