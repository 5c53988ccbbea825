"""Fine-tunes children of a clean model, and teaches a clean model a skill."""
