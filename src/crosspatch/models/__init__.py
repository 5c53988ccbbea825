"""Models, their blocks and caches, prompts, and pairs: the only place that uses Hugging Face internals."""
