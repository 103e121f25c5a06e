"""Tenants: their API keys, their limits, and what they have used."""
