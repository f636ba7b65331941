"""Routed decoding of a base and an aligned model (BACo, arXiv 2511.05650)."""
