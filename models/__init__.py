"""Models that ship with the farm, each in a folder of its own."""
