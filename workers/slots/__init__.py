"""Slots: one job each, from the claim to its end, with its lease and its previews."""
