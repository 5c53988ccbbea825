"""Problems, mistakes, solutions and suites. Nothing here imports torch or knows a model."""
