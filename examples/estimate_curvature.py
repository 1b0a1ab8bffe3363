"""Estimate how tree-like a model's token vectors are, and the curvature of the space that would suit them."""

from retort.commands import curvature

if __name__ == "__main__":
    curvature.main()
