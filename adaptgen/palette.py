"""Colours for drawings, told apart by colour-blind readers; the first six are Okabe and Ito's.

Source: jfly.uni-koeln.de/color.
"""

__all__ = ["COLOURS"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#5A4FCF", "#6B6B00")
