"""Tests of ``netnet.testing``."""
