"""Measuring netnet against others, in one run on one machine. ``python -m netnet.bench`` (or ``make bench``).

What is measured is the server's CPU time per unit of work, which is steadier than throughput: the server is pinned to
one processor, the load generator, in C, to another. Peers take turns (A B C A B C ...), and medians are compared as
ratios. ``native`` compiles the C programs, ``processes`` runs things, ``families`` says what is measured, ``report``
prints it; ``servers`` are the programs that are compared, each as its library's documentation would have it.
"""
