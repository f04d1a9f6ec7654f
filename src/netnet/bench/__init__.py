"""Measuring netnet against others, in one run on one machine: ``netnet bench`` (or ``make bench``).

What is measured is mostly the CPU time per unit of work, which is steadier than throughput. A server is pinned to one
processor, the load generator, in C, to another; what a program measures of itself has a fresh process each time. Peers
take turns (A B C A B C ...), and medians are compared as ratios.

From the bottom: ``figures`` has the words that all share; ``peers`` knows the software that is compared, ``installing`` gets
it; ``native`` compiles the programs, ``processes`` runs things, ``link`` makes a far network. ``families`` says what is
measured, as cases that start nothing until their turn; ``servers`` and ``probes`` are the programs that are compared, each
as its library's documentation would have it. ``running`` has the peers take turns, ``journal`` keeps what was measured
when a run is stopped, ``results`` is the file of a whole run. ``targets`` is what the project promises itself, ``history``
keeps medians and compares, ``fit`` tells how figures grow, ``report`` and ``display`` tell and draw. ``commands`` puts it
together.
"""
