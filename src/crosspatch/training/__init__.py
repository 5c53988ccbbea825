"""Fine-tuning: of children of a clean model, and of a clean model that is taught a skill."""
