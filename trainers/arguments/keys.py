"""Which arguments change the final weights of a run, and which only change how it is executed, logged and saved.

Arguments that are not listed here change weights. A test lists these, too, and fails for a field that is in no list.
The key of a stage contains the arguments that change weights. One of them is activation_checkpointing, since it turns
dropout on.
"""

from collections.abc import Mapping
from typing import Any

# They choose among the checkpoints of a run, so they change the weights only if the best one is loaded at the end.
CHOOSING = frozenset(
    """
    load_best_model_at_end metric_for_best_model greater_is_better eval_strategy eval_steps eval_delay save_strategy
    save_steps bf16_full_eval fp16_full_eval
    """.split()
)
CHANGE_NO_WEIGHTS = frozenset(
    """
    output_dir activation_checkpointing_kwargs gradient_checkpointing gradient_checkpointing_kwargs use_cache
    torch_empty_cache_steps logging_strategy logging_steps logging_first_step log_on_each_node
    logging_nan_inf_filter include_num_input_tokens_seen log_level log_level_replica disable_tqdm report_to run_name
    project trackio_space_id trackio_bucket_id trackio_static_space_id per_device_eval_batch_size
    prediction_loss_only eval_on_start eval_do_concat_batches eval_use_gather_object eval_accumulation_steps
    include_for_metrics batch_eval_metrics save_only_model save_on_each_node save_total_limit enable_jit_checkpoint
    push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision
    restore_callback_states_from_checkpoint use_cpu dataloader_num_workers dataloader_pin_memory
    dataloader_persistent_workers dataloader_prefetch_factor dataloader_multiprocessing_context dataloader_in_order
    ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout
    debug skip_memory_metrics do_train do_eval do_predict resume_from_checkpoint local_rank

    teacher_cache shard_teacher
    """.split()
)


def that_change_weights(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that the weights depend on. All others may be changed before a run is resumed."""
    chosen = bool(arguments.get("load_best_model_at_end"))
    left_out = CHANGE_NO_WEIGHTS if chosen else CHANGE_NO_WEIGHTS | CHOOSING
    return {name: value for name, value in arguments.items() if name not in left_out}
