"""Models, their blocks and caches, prompts, and the pair: the only place that knows Hugging Face's internals."""
