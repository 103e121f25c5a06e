"""Models that ship with the farm, each in its own folder."""
