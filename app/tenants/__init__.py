"""Tenants: their API keys, webhook secrets, limits and usage."""
