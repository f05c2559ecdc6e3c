"""Benchmarks: one file a question, each runnable as a module."""
