"""Transforms that move image, labels and skeletons by the same map."""
