"""crosspatch: find out where in a network, and at which tokens, a fine-tune lives."""

__version__ = "0.1.0"
