"""Everything else is in pyproject.toml; this puts the shipped folders inside the installed package.

The package list is found, not written down, so that a new domain folder is in the wheel without being named here.
"""

from pathlib import Path

from setuptools import find_packages, setup

SHIPPED = [name for name in ("checkpoints", "recipes", "examples") if Path(name).is_dir()]

setup(
    packages=[*find_packages(include=["adaptgen", "adaptgen.*"]), *(f"adaptgen.{name}" for name in SHIPPED)],
    package_dir={f"adaptgen.{name}": name for name in SHIPPED},
    package_data={"": ["*.safetensors"]} | {f"adaptgen.{name}": ["**/*"] for name in SHIPPED},
    exclude_package_data={f"adaptgen.{name}": ["**/__pycache__/*", "**/*.pyc"] for name in SHIPPED},
    include_package_data=False,
)
