"""Heatmaps, figures and the page. Needs no torch; drawing libraries are imported where something is drawn."""
