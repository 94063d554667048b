"""The version, in a separate module: the client of the service needs nothing else from here."""

__version__ = "0.1.0"
