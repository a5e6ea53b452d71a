"""The package's version, where every module may read it: `quant` itself imports most of them."""

__version__ = "0.1.0"
