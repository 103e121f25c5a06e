"""Images: input pictures, encoding, provenance, moderation and upload."""
