"""The proxy as a service: its configuration file, its processes, its log and its figures.

What a proxy does with one connection is in ``socks``; here stands how it is run. ``config`` reads the file, whose tables
of keys are in ``keys`` and ``forms``; ``reference`` writes the operator's list of them; ``passwords`` knows who may log in.
"""
