"""Models, their blocks and caches, prompts, and model pairs. Only this package uses Hugging Face internals."""
