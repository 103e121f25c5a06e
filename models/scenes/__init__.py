"""The small text-to-image model that ships: its weights, and the programs that made and measure it."""
