"""The mathematics of the game: no I/O, plotting, device or logging code."""
