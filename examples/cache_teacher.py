"""Write a teacher's outputs to disk, once, for later runs with --teacher_cache."""

from retort.commands import cache

if __name__ == "__main__":
    cache.main()
