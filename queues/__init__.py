"""The queue adapters: a producer's cloud queue on one side, the farm's intake on the other."""
