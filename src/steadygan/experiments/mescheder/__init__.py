"""Mescheder, Geiger and Nowozin 2018: one module for each figure, table or claim."""
