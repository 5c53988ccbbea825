"""Pictures drawn by matplotlib, for papers: `figures/` of a run."""
