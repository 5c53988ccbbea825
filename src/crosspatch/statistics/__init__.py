"""Statistics of scores and answers: recovered fractions, intervals, claims. Needs no torch."""
