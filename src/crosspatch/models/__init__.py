"""Models, their blocks and caches, prompts, and model pairs."""
