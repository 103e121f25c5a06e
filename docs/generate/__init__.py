"""Generators of reference pages: each module makes a page of `docs/reference` from the code."""
