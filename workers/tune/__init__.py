"""Tuning (`renderfarm doctor --tune MODEL`): finds a model's fastest settings on this device."""
