"""The life of a job: its words and legal moves (pure), its records, and the statements that move it."""
