"""`python -m retort`, `torchrun -m retort`, `accelerate launch -m retort` and `deepspeed --module retort`."""

from retort.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
