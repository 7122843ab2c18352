"""Networks between backbone and heads."""
