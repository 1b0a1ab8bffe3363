"""Students plug into mteb as they are: one of its tasks, on local data, against our own score."""

import pytest
import tiny
from datasets import Dataset, DatasetDict
from mteb import evaluate
from mteb.abstasks import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from sentence_transformers import SentenceTransformer

from retort import DistillTrainer, shrink
from retort.evaluation import sts_spearman
from retort.modeling.encoding import SentenceEncoder, SentenceModules

PAIRS = {
    "sentence1": tiny.sentences(30, seed=1),
    "sentence2": tiny.sentences(30, seed=2),
    "score": [(7 * i) % 30 / 6 for i in range(30)],
}


class OwnPairs(AbsTaskSTS):
    """Semantic similarity on pairs that need no download."""

    metadata = TaskMetadata(
        name="OwnPairs",
        description="Pairs made on the spot.",
        dataset={"path": "own/pairs", "revision": "1"},
        type="STS",
        eval_langs=["eng-Latn"],
        main_score="cosine_spearman",
    )

    def load_data(self, **kwargs):
        """Take them from this file."""
        self.dataset, self.data_loaded = DatasetDict(test=Dataset.from_dict(PAIRS)), True


def test_a_student_runs_a_task_and_has_the_score_that_we_give_it(tokenizer, tmp_path):
    teacher = tiny.model("bert", layers=4)
    args = tiny.arguments(tmp_path, embedding_weight=1.0)
    trainer = DistillTrainer(shrink(teacher, layers=2), teacher, args, processing_class=tokenizer)
    trainer.save_model()
    model = SentenceTransformer(str(tmp_path), device="cpu")
    found = evaluate(model, [OwnPairs()], cache=None, show_progress_bar=False).task_results[0].get_score()
    student = SentenceEncoder(trainer.student, tokenizer, SentenceModules.plain("mean", 128, normalize=False))
    sides = [student.encode(PAIRS[side]) for side in ("sentence1", "sentence2")]
    assert found == pytest.approx(sts_spearman(*sides, PAIRS["score"]), abs=1e-6)
