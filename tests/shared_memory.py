"""DeepSpeed's own collective for ranks on the CPUs of one machine, which tests do without."""

import deepspeed


def leave_out() -> None:
    """Let gloo do the sums: in a fresh environment, DeepSpeed would compile its helper for two minutes first."""
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
