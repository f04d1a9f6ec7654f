"""Green threads: loop, tasks, scopes, clocks, synchronisation. Knows descriptors, but no TCP, no names, no protocol."""
