"""Equations in texts, read and solved exactly: in a question, in the lines of a solution, in its answer."""
