"""Outbound: the HTTP client for URLs that customers name, guarded against SSRF."""
