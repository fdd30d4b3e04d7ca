"""Fitted models as formulas and as programs of other languages."""
