"""From maps to instances."""
