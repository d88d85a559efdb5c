"""Experiments with a known outcome: what is run, and what to expect."""
