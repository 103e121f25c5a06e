"""The GPU plane: Celery workers, each with one device thread that runs the engine."""
