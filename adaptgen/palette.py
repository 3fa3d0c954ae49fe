"""Colours for drawings, told apart by colour-blind readers; the first six are Okabe and Ito's.

Source: jfly.uni-koeln.de/color.
"""

__all__ = ["COLOURS", "SHADES"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#5A4FCF", "#6B6B00")
SHADES = ("#DEEBF7", "#9ECAE1", "#4292C6", "#08306B")
"""Of one colour, from little to much; ColorBrewer's blues."""
