"""Programs that measure one thing in themselves and print it. Run by the path of ``measure.py``, not imported.

``measure`` has the clock; each ``on_LIBRARY`` has the works, one function a work, written as that library's documentation
would have it. A work of the same name does the same in each library:

single, batches     empty tasks, spawned and joined one at a time, or by the hundred
turns               two tasks take turns
sleeps              tasks that sleep for up to 10 ms, a thousand at once; their lengths are made from a seed
receive             a byte that is there is received; receive_in_timeout: in a time-out
timeout             a time-out around nothing
channel             items go from one task to another, of which some may wait between them
set_and_cancel      timers are set and taken back, while others stand
judge               a request for a host name is judged by rules about names, of which the last matches
short_sleeps        a hundred tasks sleep for 0.1 ms again and again, while timers stand
sleepers            tasks sleep until they are cancelled
"""
