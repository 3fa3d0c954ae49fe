"""adaptgen continues what you give it, with a small transformer that attends to its own earlier layers."""

__version__ = "0.1.0"
