"""Figures drawn by matplotlib for papers: `figures/` of a run."""
