"""Webhooks: what is sent to a customer's endpoint, when it is tried again, and where it never goes."""
