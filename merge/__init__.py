"""Soups of checkpoints: open, compare, select, search, merge (SoCE, arXiv 2511.13254)."""
