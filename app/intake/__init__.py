"""Intake: turns messages of cloud queues into jobs.

Any number may run; no message is lost if one dies.

`triage` and `pacing` decide, in plain Python; `in_flight` extends leases; `reader` is the loop of
one source; `role` runs one reader for each source.
"""
