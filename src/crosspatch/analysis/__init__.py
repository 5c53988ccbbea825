"""Analyses that use the engine: attribution, localisation, controls, first divergence, lenses and steering."""
