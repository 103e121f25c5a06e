"""Slots: each runs one job at a time, from the claim to its end, with its lease and previews."""
