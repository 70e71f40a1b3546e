"""Stands for the main module of a Worker that has none: static assets alone."""
