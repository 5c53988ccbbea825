"""Families of mathematics: how exercises are drawn, asked and solved. Each module is one family."""
