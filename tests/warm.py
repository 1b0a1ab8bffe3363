"""Loaded once into the forkserver of `forked`."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["DS_ACCELERATOR"] = "cpu"

import shared_memory
import torch
import transformers.trainer

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
shared_memory.leave_out()
