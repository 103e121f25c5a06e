"""Generators of the reference pages: each module makes one page of `docs/reference` from the code."""
