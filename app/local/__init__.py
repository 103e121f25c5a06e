"""The embedded farm: Postgres, Redis, and the supervisor that keeps all processes running."""
