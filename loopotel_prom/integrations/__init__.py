"""Loops of other frameworks, traced."""
