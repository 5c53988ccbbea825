"""What a model says: is the answer right, which operations does it state, is the text sound."""
