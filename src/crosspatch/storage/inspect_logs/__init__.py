"""A run's texts as logs of Inspect AI: for `inspect view` and its data frames."""
