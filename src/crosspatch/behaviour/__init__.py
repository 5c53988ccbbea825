"""What a model's text says: is the answer right, which operations it states, is the text itself sound. No torch."""
