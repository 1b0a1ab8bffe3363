"""A recipe for sentence embeddings, on the docstrings of Python's standard library."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from recipe import Recipe
from sentence_students import SentenceModel, load_sentence_teacher, side_by_side
from transformers import PreTrainedModel

from retort import StagedRun, shrink, tokenize
from retort.collators import DocstringCorpus, docstring_corpus, passages
from retort.evaluation import Report, Role, retrieval_scores


@dataclass(frozen=True)
class SentenceRecipe:
    """A recipe whose `data` names a corpus of sentences."""

    recipe: Recipe

    def __post_init__(self):
        if (self.recipe.data["corpus"], self.recipe.evaluation) != ("docstrings", "retrieval"):
            raise SystemExit("Of sentences, this version knows data.corpus: docstrings and evaluation: retrieval.")

    @cached_property
    def corpus(self) -> DocstringCorpus:
        """Sentences to learn from, and pairs to be judged by, from other modules."""
        return docstring_corpus()

    @cached_property
    def teacher_model(self) -> SentenceModel:
        """The teacher, with what makes embeddings of its outputs."""
        return load_sentence_teacher(self.recipe.teacher, self.recipe.data["max_length"])

    @property
    def introduction(self) -> str:
        """What is about to happen, for the terminal."""
        return (
            f"Teacher: {self.recipe.teacher_name}. Text: {len(self.corpus.sentences['train']):,} sentences from the "
            f"docstrings of Python's standard library; {len(self.corpus.pairs['test'])} of its docstrings, from other "
            "modules, are for the test."
        )

    def student(self) -> PreTrainedModel:
        """The student before its first stage."""
        settings = {name: value for name, value in self.recipe.student.items() if name != "freeze_embeddings"}
        return shrink(self.teacher_model.model, **settings).eval()

    def staged_run(self) -> StagedRun:
        """The student's stages."""
        pooling = self.teacher_model.pooling
        texts = passages(self.corpus.sentences["train"], source="module")
        return StagedRun(
            self.recipe.stages,
            self.student(),
            self.recipe.teacher,
            folder=Path(self.recipe.output_dir) / "stages",
            data={"train": tokenize(texts, self.teacher_model.tokenizer, max_length=pooling.max_length)},
            processing_class=self.teacher_model.tokenizer,
            arguments={"pooler": pooling.pooler} | dict(self.recipe.arguments),
            freeze_words=self.recipe.student.get("freeze_embeddings", False),
        )

    def report(self, untrained: PreTrainedModel, student: PreTrainedModel, log_history: list[dict]) -> Report:
        """Set teacher, untrained and trained student side by side on modules that no one was trained on."""
        pairs, sentences = self.corpus.pairs["test"], self.corpus.sentences["test"]["text"]

        def retrieval(model: SentenceModel) -> dict[str, float]:
            scores = retrieval_scores(model.embed(pairs["summary"]), model.embed(pairs["details"]))
            return {"MRR@10": scores["mrr@10"], "recall@1": scores["recall@1"], "recall@10": scores["recall@10"]}

        return side_by_side(
            {
                self.recipe.teacher_name.rsplit("/", 1)[-1]: (Role.TEACHER, self.teacher_model),
                "student, untrained": (Role.UNTRAINED, self.teacher_model.with_model(untrained)),
                "student": (Role.STUDENT, self.teacher_model.with_model(student)),
            },
            retrieval,
            sentences,
            log_history,
            measured=f"Retrieval: a docstring's details by its summary, among the {len(pairs)} of modules of Python's "
            "standard library that were not trained on. Agreement: Spearman correlation of the cosines of "
            f"{min(len(sentences), 1000):,} sentences of those modules.",
        )
