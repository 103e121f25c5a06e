"""The engine's scheduling beside what one would do instead, on traces of jobs."""
