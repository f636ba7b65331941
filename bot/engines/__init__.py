"""Evaluation engines: they turn a suite's items and a live model into right-or-wrong per item.

Imported in the child only.
"""
