"""Problems, mistakes, solutions and suites."""
