"""Webhooks: the transactional outbox, its delivery with retries, and the endpoints."""
