"""The embedded farm: a Postgres and a Redis of its own, and the supervisor that keeps all running."""
