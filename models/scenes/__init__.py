"""The small text-to-image model that ships: its weights, training and evaluation."""
