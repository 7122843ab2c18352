"""Pure functions of two labelings: every metric is a function of one sparse contingency table."""
