"""Grading of what a model writes: answers, stated operations, text health; and checks of datasets. Needs no torch."""
