"""The engine's scheduling compared with the alternatives, on traces of jobs."""
