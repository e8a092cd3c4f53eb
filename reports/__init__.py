"""Figures, tables and the page of a run: records in, files out; no network is run here."""
