"""Heatmaps, figures and the page. Needs no torch; plotly and matplotlib are imported where something is drawn."""
