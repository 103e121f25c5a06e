"""`renderfarm doctor --tune MODEL`: finds how a model runs best on the device at hand, by measuring."""
