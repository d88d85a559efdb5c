"""A live page about runs, on this machine alone: ``steadygan watch``."""
