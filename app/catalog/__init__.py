"""The model catalog: the entries of the registry file `models.toml`, and how they are read."""
