"""Heads: from features to one kind of map, with its targets, predictor and criterion."""
