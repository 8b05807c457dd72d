"""The packages of a wheel: the zoo with its configs inside it, and the data modules.

Only this file can place `configs/` inside `zoo`; everything else is in pyproject.toml.
"""

from setuptools import find_packages, setup

CONFIGS = ["zoo.configs", "zoo.configs.overlays", "zoo.configs.paper"]

setup(
    packages=[*find_packages(include=["zoo*", "datamodules*"]), *CONFIGS],
    package_dir={"zoo.configs": "configs"},
    package_data={name: ["*.yaml"] for name in CONFIGS}
    | {"datamodules": ["samples/**"], "zoo.methods.sova": ["*.yaml", "*.html", "*.js"]},
)
