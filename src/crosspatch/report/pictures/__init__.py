"""The validated content of pictures, and their colours; matplotlib, plotly and the page draw it."""
