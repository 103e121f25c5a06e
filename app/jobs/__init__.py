"""Jobs: submission, state machine, job store, transactional outbox, result cache and audit."""
