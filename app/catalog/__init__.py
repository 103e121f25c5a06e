"""The model catalog: what each entry of the registry file `models.toml` says, and how it is read."""
