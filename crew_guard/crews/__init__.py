"""Crews that ship."""
