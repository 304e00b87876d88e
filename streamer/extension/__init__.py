"""The browser extension: its sources, and what writes it out for each browser."""
