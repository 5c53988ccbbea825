"""Patch activations of one model into another while text is generated, and score every step.

Letters in the shapes of this folder:

| letter | meaning |
| --- | --- |
| B | rows, one trajectory each |
| T | positions |
| D | width of the model |
| V | vocabulary |
"""
