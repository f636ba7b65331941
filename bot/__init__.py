"""Stockpot: watches a Hub for fine-tunes of a base model and publishes better soups and routers."""

__version__ = "0.1.0"
