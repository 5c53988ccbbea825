"""Pictures drawn by plotly, for the page and for notebooks."""
