"""The version, in a module of its own: the client of the service needs no more of the package."""

__version__ = "0.1.0"
