"""Intake: brings messages of cloud queues in as jobs. Any number may run; one that dies loses nothing.

`sorting` and `pacing` decide, in plain Python; `hand` keeps leases; `reader` is the loop of one
source; `role` runs one reader for each.
"""
