"""Detectors of top-down models."""
