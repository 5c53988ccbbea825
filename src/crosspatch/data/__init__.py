"""Generates problems with right and mistaken solutions, and reads suites."""
