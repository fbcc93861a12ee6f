"""Turns plans into source for NumPy, numba on the CPU and numba.cuda, and runs it."""
