"""Roth, Lucchi, Nowozin and Hofmann 2017: one module for each figure, table or claim."""
