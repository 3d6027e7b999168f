"""The reference server of fractal-lba: a pure core, and adapters that carry it out."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("fractal-lba-server")
except PackageNotFoundError:  # run from a checkout
    __version__ = "0+checkout"
