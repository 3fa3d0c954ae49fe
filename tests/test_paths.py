"""Commands as they are shown to be typed."""

from __future__ import annotations

import os

import pytest

from adaptgen.paths import command_line


def test_a_command_is_quoted_for_the_shell_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["adaptgen", "train", "my runs/a&b/recipe.yaml"]
    for name, expected in (("posix", "'my runs/a&b/recipe.yaml'"), ("nt", '"my runs/a&b/recipe.yaml"')):
        with monkeypatch.context() as patch:
            patch.setattr(os, "name", name)
            shown = command_line(command)
        assert shown == f"adaptgen train {expected}"
