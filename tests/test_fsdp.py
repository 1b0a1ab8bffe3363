"""What is refused under FSDP2. Its runs are in test_ranks.py, test_resume.py and test_stages.py."""

import json
from pathlib import Path

import every_family
import pytest
import staged
import tiny
from accelerate.utils.fsdp_utils import _find_final_norm
from datasets import Dataset

from retort import DistillTrainer, Stage, tokenize
from retort.modeling import DistillationModel
from retort.modeling.encoding import OutputRequest

pytestmark = pytest.mark.promise(9)

ZERO_2 = str(Path(__file__).parents[1] / "examples/deepspeed/zero2.json")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fsdp_config": {"version": 1}}, r"version=1, which is not supported\. Only FSDP2"),
        ({"fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT"}}, r"state_dict_type='SHARDED_STATE_DICT'.*a whole"),
        ({"fsdp_config": {"state_dict_type": None}}, r"state_dict_type=None"),
        ({"fsdp_config": {"reshard_after_fwd": False}}, r"reshard_after_fwd=False.*only reshard_after_forward can be"),
        ({"fsdp_config": {"fsdp_cpu_offload": True}}, r"cpu_offload=True.*ZeRO-3"),
        ({"fsdp_config": {"activation_checkpointing": True}}, r"activation_checkpointing=True.*training argument"),
        (
            {"fsdp_config": {"transformer_layer_cls_to_wrap": "BertLayer"}},
            r"transformer_layer_cls_to_wrap='BertLayer'.*layer by layer",
        ),
        ({"fsdp_config": {"cpu_ram_efficient_loading": True}}, r"Every rank loads the whole model"),
        ({"torch_compile": True}, r"torch_compile is not supported under FSDP"),
        (
            {"fsdp_config": {"reshard_after_forward": "full_shard"}},
            r"reshard_after_forward='full_shard'.*true or false",
        ),
        ({"fsdp_config": {"fsdp_reshard_after_forward": 0}}, r"reshard_after_forward=0.*true or false"),
        ({"fsdp_config": {"version": "two"}}, r"version='two'.*Only FSDP2"),
        ({"fsdp_config": {1: 2}}, r"1=2.*only reshard_after_forward can be"),
        ({"fsdp_config": ["version"]}, r"fsdp_config=\['version'\], but a dict was expected"),
        ({"fsdp_config": "absent.json"}, r"fsdp_config='absent.json' can't be read.*No such file"),
        ({"fsdp_config": "{bad"}, r"fsdp_config='{bad' can't be read as a JSON object"),
        ({"fsdp": "hybrid_shard"}, r"fsdp='hybrid_shard', but true or false"),
        ({"optim": "adafactor"}, r"optim='adafactor' is not supported under FSDP. Choose one of adamw_torch_fused"),
        ({"deepspeed": ZERO_2}, r"fsdp and deepspeed both shard the student"),
        ({"shard_teacher": True, "teacher_cache": "cache"}, r"a sharded teacher can't be cached"),
        ({"fsdp": False, "fsdp_config": {"version": 2}}, r"fsdp_config has no effect without fsdp"),
    ],
)
def test_settings_with_which_a_student_could_not_be_trained_or_saved(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        tiny.arguments(tmp_path, **{"fsdp": True, **settings})


def test_settings_that_change_nothing_are_taken(tmp_path):
    config = {"version": 2, "reshard_after_forward": False, "fsdp_cpu_offload": "false", "xla": "none"}
    config |= {"state_dict_type": "FULL_STATE_DICT", "auto_wrap_policy": "TRANSFORMER_BASED_WRAP"}
    file = tmp_path / "fsdp.json"
    file.write_text(json.dumps(config))
    plain = tiny.arguments(tmp_path, fsdp=True).fsdp_plugin_args
    assert plain["reshard_after_forward"]
    for given in (config, json.dumps(config), str(file)):
        args = tiny.arguments(tmp_path, fsdp=True, fsdp_config=given)
        assert args.shards_weights
        assert args.fsdp_plugin_args == plain | {"reshard_after_forward": False}
    assert config["fsdp_cpu_offload"] == "false"  # the caller's dict is not changed


@pytest.mark.parametrize("fsdp", [False, True])
def test_fsdp_of_the_launcher(fsdp, tmp_path, monkeypatch):
    # Its variables would set what `fsdp_config` may not.
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match=r"accelerate launch was told to use FSDP.*--fsdp"):
        tiny.arguments(tmp_path, fsdp=fsdp)


def test_a_cpu_on_which_accelerate_would_leave_it_out(tokenizer, tmp_path):
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(8)}), tokenizer)
    args = tiny.arguments(tmp_path, fsdp=True, embedding_weight=1.0)
    with pytest.raises(ValueError, match=r"fsdp shards over GPUs.*torchrun --nproc_per_node N.*leave fsdp out"):
        DistillTrainer(tiny.model(), tiny.model(seed=1), args, train_dataset=rows, processing_class=tokenizer)


@pytest.mark.parametrize(
    ("cached", "settings", "message"),
    [
        (True, {}, r"The stage 'logits': under FSDP, a sharded teacher can't be cached"),
        (False, {"teacher_cache": "cache"}, r"The stage 'logits': under FSDP, a sharded teacher can't be cached"),
        (False, {}, r"The stage 'logits': FSDP shards a teacher in place.*folder or hub id"),
    ],
)
def test_a_teacher_of_stages_that_would_be_cached_or_is_in_memory(cached, settings, message, tmp_path):
    settings = {"logits_weight": 1.0, "fsdp": True, "shard_teacher": True, **settings}
    with pytest.raises(ValueError, match=message):
        staged.staged_run(tmp_path, [Stage("logits", settings, cache_teacher=cached)]).check()


def test_accelerate_takes_no_student_for_its_last_norm():
    model = every_family.build("roberta-prelayernorm")
    assert "Norm" in type(model).__name__
    assert _find_final_norm(DistillationModel(model, [], OutputRequest())) is None


def test_a_sharded_teacher_beside_a_whole_student(tmp_path):
    with pytest.raises(ValueError, match=r"shard_teacher shards the teacher as the student.*fsdp, or deepspeed"):
        tiny.arguments(tmp_path, shard_teacher=True)
