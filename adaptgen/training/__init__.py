"""Fitting a model to a corpus."""

from adaptgen.training.loop import Trainer

__all__ = ["Trainer"]
