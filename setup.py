"""Everything else is in pyproject.toml; this puts the shipped folders inside the installed package.

The package list is found, not written down, so that a new domain folder is in the wheel without being named here.
"""

from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

SHIPPED = {f"adaptgen.{name}": name for name in ("checkpoints", "recipes", "examples") if Path(name).is_dir()}


class BuildPackage(build_py):
    """Leaves the scripts that wrote the examples in the source tree."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        return [] if package in SHIPPED else super().find_package_modules(package, package_dir)


setup(
    cmdclass={"build_py": BuildPackage},
    packages=[*find_packages(include=["adaptgen", "adaptgen.*"]), *SHIPPED],
    package_dir=SHIPPED,
    package_data={"": ["*.safetensors", "*.json"], "adaptgen": ["py.typed"]}
    | {package: ["**/*"] for package in SHIPPED},
    exclude_package_data={package: ["**/__pycache__/*", "*.py", "**/*.pyc"] for package in SHIPPED},
    include_package_data=False,
)
