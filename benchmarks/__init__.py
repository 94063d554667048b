"""Measurements, each a module with a `main()` that prints a markdown table."""
