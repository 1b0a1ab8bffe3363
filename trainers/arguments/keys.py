"""Which arguments change the final weights of a run, and which only change how it is executed, logged and saved.

A test checks that every field of every arguments class is in one of the two lists. The key of a stage and the model
card contain the arguments that change weights.
"""

from collections.abc import Mapping
from typing import Any

_LEARNING = frozenset(
    """
    per_device_train_batch_size num_train_epochs max_steps learning_rate lr_scheduler_type lr_scheduler_kwargs
    warmup_steps optim optim_args weight_decay adam_beta1 adam_beta2 adam_epsilon optim_target_modules
    gradient_accumulation_steps average_tokens_across_devices max_grad_norm label_smoothing_factor bf16 fp16 tf32
    torch_compile torch_compile_backend torch_compile_mode use_liger_kernel liger_kernel_config neftune_noise_alpha
    auto_find_batch_size full_determinism seed data_seed accelerator_config parallelism_config dataloader_drop_last
    remove_unused_columns label_names train_sampling_strategy length_column_name ignore_data_skip fsdp fsdp_config
    deepspeed

    teacher_dtype teacher_prompt_name teacher_cache_dtype teacher_weights embedding_weight embedding_loss
    similarity_weight logits_weight logits_loss temperature hidden_weight hidden_tokens hidden_loss features_weight
    layer_map attention_weight attention_loss relation_weight relation_heads relation_map label_weight pooler
    teacher_pooler projector fit_projector keep_projector truncate_dims quantization_aware disable_dropout
    attention_backend tokens_per_batch

    contrastive_weight contrastive_temperature learn_temperature both_directions student_negatives queue_size
    queue_dtype fill_queue mcl_weight source_weight target_weight

    margin_weight listwise_weight score_activation score_similarity score_temperature

    mlm_weight vocabulary_weight vocabulary_loss piece_logits map_logits vocabulary_tokens mask_share mask_smoothing
    whole_words teacher_reads contrast_weight contrast_space contrast_temperature negatives negative_count
    negatives_within unaligned_negatives curvature learn_curvature
    """.split()
)
# They choose among the checkpoints of a run, so they change the weights only if the best one is loaded at the end.
_CHOOSING = frozenset(
    """
    load_best_model_at_end metric_for_best_model greater_is_better eval_strategy eval_steps eval_delay save_strategy
    save_steps bf16_full_eval fp16_full_eval
    """.split()
)
CHANGE_WEIGHTS = _LEARNING | _CHOOSING
CHANGE_NO_WEIGHTS = frozenset(
    """
    output_dir activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing
    gradient_checkpointing_kwargs use_cache torch_empty_cache_steps logging_strategy logging_steps logging_first_step
    log_on_each_node logging_nan_inf_filter include_num_input_tokens_seen log_level log_level_replica disable_tqdm
    report_to run_name project trackio_space_id trackio_bucket_id trackio_static_space_id per_device_eval_batch_size
    prediction_loss_only eval_on_start eval_do_concat_batches eval_use_gather_object eval_accumulation_steps
    include_for_metrics batch_eval_metrics save_only_model save_on_each_node save_total_limit enable_jit_checkpoint
    push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision
    restore_callback_states_from_checkpoint use_cpu dataloader_num_workers dataloader_pin_memory
    dataloader_persistent_workers dataloader_prefetch_factor dataloader_multiprocessing_context dataloader_in_order
    ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout debug
    skip_memory_metrics do_train do_eval do_predict resume_from_checkpoint local_rank

    teacher_cache shard_teacher
    """.split()
)


def that_change_weights(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that the weights depend on. All others may be changed before a run is resumed."""
    chosen = bool(arguments.get("load_best_model_at_end"))
    left_out = CHANGE_NO_WEIGHTS if chosen else CHANGE_NO_WEIGHTS | _CHOOSING
    return {name: value for name, value in arguments.items() if name not in left_out}
