"""The device: the thread that runs the engine, and how the engine is built from the catalog."""
