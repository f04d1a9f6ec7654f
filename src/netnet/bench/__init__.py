"""Measuring netnet against others, in one run on one machine. ``python -m netnet.bench`` (or ``make bench``).

What is measured is mostly the CPU time per unit of work, which is steadier than throughput. A server is pinned to one
processor, the load generator, in C, to another; what a program measures of itself has a fresh process each time. Peers
take turns (A B C A B C ...), and medians are compared as ratios.

``figures`` has the words all share. ``native`` compiles the C programs, ``processes`` runs things, ``families`` says what
is measured; ``servers`` and ``probes`` are the programs that are compared, each as its library's documentation would have
it. ``targets`` is what the project promises itself, ``history`` keeps runs and compares, ``report`` prints.
"""
