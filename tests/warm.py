"""What the forkserver of `forked` loads once, and `launched` before its script."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["DS_ACCELERATOR"] = "cpu"

import deepspeed
import torch
import transformers
from transformers import Trainer  # noqa: F401

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
# DeepSpeed would compile a shared-memory collective for 30 s; gloo does the same sums.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
