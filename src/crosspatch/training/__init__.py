"""Training: children of a clean model, and what a clean model is taught."""
