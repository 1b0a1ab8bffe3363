"""A tiny random model of every type that transformers maps for masked LM, made from its own configuration class."""

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

VOCABULARY, LAYERS = 96, 4
# Set where a configuration has such an entry, by whichever of its names.
SIZES = {
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "hidden_size": 32,
    "intermediate_size": 48,
    "hidden_dim": 48,
    "num_hidden_layers": LAYERS,
    "encoder_layers": LAYERS,
    "decoder_layers": LAYERS,
    "num_attention_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "d_ff": 48,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "d_kv": 8,
    "embedding_size": 16,
    "max_position_embeddings": 66,
}
VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}
CHANNELS = {"qk_channels": 16, "v_channels": 16}
# What sizes alone don't make consistent, or small.
OVERRIDES = {
    "big_bird": {"attention_type": "original_full"},
    "esm": {"vocab_size": VOCABULARY, "mask_token_id": 4, "position_embedding_type": "rotary"},
    "funnel": {
        "block_sizes": [2, 2],
        "d_model": 32,
        "n_head": 4,
        "d_head": 8,
        "d_inner": 48,
        "num_hidden_layers": None,
    },
    "longformer": {"attention_window": [4, 4, 8, 8]},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 16},
    "layoutlm": {"max_2d_position_embeddings": 16},
    "mobilebert": {"intra_bottleneck_size": 16, "true_hidden_size": 16, "embedding_size": 16},
    "modernbert": {"local_attention": 6},
    "modernvbert": {"text_config": TEXT | {"model_type": "modernbert", "pad_token_id": 0}, "vision_config": VISION},
    "neomme": {"head_dim": 16, "embedding_rank": 16, "sliding_window": 4},
    "perceiver": {"d_latents": 16, "d_model": 32, "num_latents": 4, "num_blocks": 1} | CHANNELS,
    "reformer": {"axial_pos_embds": False, "attention_head_size": 8, "feed_forward_size": 48, "num_buckets": 2},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 16},
    "roc_bert": {"shape_vocab_size": 20, "pronunciation_vocab_size": 20},
    "squeezebert": {"embedding_size": 32},
    "tapas": {"type_vocab_sizes": [2, 2, 2, 2, 2, 2, 2]},
    "ultravbert": {"text_config": TEXT | {"model_type": "ultrabert", "pad_token_id": 0}, "vision_config": VISION},
    "xmod": {"languages": ["en_XX", "de_DE"], "default_language": "en_XX"},
}
GROUPED = {"num_attention_heads": 4, "num_key_value_heads": 2}
WINDOWS = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"] * 2}
# Beside those: name -> class of the model, type of the configuration, overrides.
NAMED = {
    "deberta-v2 relative": (
        "DebertaV2ForMaskedLM",
        "deberta-v2",
        {
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "conv_kernel_size": 3,
            "conv_act": "gelu",
        },
    ),
    "eurobert grouped": ("EuroBertForMaskedLM", "eurobert", GROUPED),
    "embeddinggemma": (
        "Gemma3TextModel",
        "gemma3_text",
        GROUPED | WINDOWS | {"use_bidirectional_attention": True, "use_cache": False, "head_dim": 8},
    ),
    "gemma3 text": ("Gemma3TextModel", "gemma3_text", GROUPED | WINDOWS),
    "llama": ("LlamaModel", "llama", GROUPED),
    "qwen3": ("Qwen3Model", "qwen3", GROUPED | {"head_dim": 16}),
    "t5 encoder": ("T5EncoderModel", "t5", {}),
    "umt5 encoder": ("UMT5EncoderModel", "umt5", {}),
    "gpt2": ("GPT2Model", "gpt2", {}),
}
NAMES = (*MODEL_FOR_MASKED_LM_MAPPING_NAMES, *NAMED)


def build(name: str, seed: int = 0):
    """The tiny model of a type, or of the named list, in evaluation mode; weights large enough to tell layers apart."""
    architecture, kind, overrides = NAMED.get(
        name, (MODEL_FOR_MASKED_LM_MAPPING_NAMES.get(name), name, OVERRIDES.get(name, {}))
    )
    config_class = CONFIG_MAPPING[kind]
    usual = config_class()
    sizes = {}
    for size, value in SIZES.items():
        own_name = config_class.attribute_map.get(size, size)
        if isinstance(getattr(usual, own_name, None), int) or size == "pad_token_id":
            sizes[own_name] = value
    settings = {key: value for key, value in (sizes | overrides).items() if value is not None}
    torch.manual_seed(seed)
    model = getattr(transformers, architecture)(config_class(**settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1 or not parameter.any():
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
            else:
                parameter.mul_(6)
    return model
