"""Test suites and notebooks of others, run with the stock kernel and with ours."""
