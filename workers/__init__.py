"""The GPU plane: Celery workers whose one device thread runs the engine."""
