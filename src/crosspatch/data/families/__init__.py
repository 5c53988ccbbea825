"""Families of mathematics: each module generates, words and solves the exercises of one family."""
