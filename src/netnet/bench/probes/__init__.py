"""Programs that measure one thing in themselves and print it. Run by the path of ``measure.py``, not imported.

``measure`` has the clock; each ``on_LIBRARY`` has the works, one function a work, written as that library's documentation
would have it. A work of the same name does the same in each library.
"""
