"""Configuration: the settings of a farm, read from environment variables."""
