"""Fine-tuning a clean model into a corrupted one."""
