"""What is built on the engine: attribution, localisation, controls, first divergence, lenses and steering."""
