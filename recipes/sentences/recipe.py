"""Recipes for sentence embeddings: stages on texts, groups or translations, and a report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ...data import VECTORS, combine_vectors, read_vectors, with_vectors
from ...data.tokenization import tokenize, tokenize_groups
from ...evaluation.report import Report, Role, VectorRow, require_drawing
from ...evaluation.sentences import load_sentence_teacher, short_vectors, side_by_side, sts_of_each
from ...modeling import load_encoder, static_tokenizer
from ...modeling.encoding import SentenceEncoder, SentenceModules, read_int8_ranges, read_sentence_modules
from ...modeling.shrinking import shrink
from ...trainers.saving import save_router
from ...trainers.stages import Stage, StagedRun, StageResult, best_stage
from ..schema import Student
from ..student_recipe import Parent, StudentRecipe, rows_of_stages
from ..tokenizers import student_tokenizer
from .corpora import Docstrings, Files
from .queries import check_space, prompts_of_rows
from .static import StaticStart


@dataclass(frozen=True)
class SentenceRecipe(StudentRecipe):
    """A recipe for sentence embeddings."""

    parent_title = "Stages of the assistant"

    @cached_property
    def corpus(self) -> Docstrings | Files:
        """The data for training and evaluation."""
        return Docstrings() if self.recipe.data.corpus else Files(self.recipe.data, self.recipe.evaluation)

    def prepare_process(self) -> None:
        if self.corpus.has_tests:
            require_drawing()

    # --- Models -------------------------------------------------------------------------------------------------------

    @cached_property
    def teacher_model(self) -> SentenceEncoder | None:
        """The teacher with its pooling and modules; None if it is given by vectors."""
        if self.recipe.teacher.vectors:
            return None
        arguments, max_length = self.recipe.arguments, self.recipe.data.max_length
        pooler, students = arguments.get("teacher_pooler"), arguments.get("pooler", "mean")
        teacher = load_sentence_teacher(self.recipe.teacher.source, max_length, pooler, otherwise=students)
        modules = teacher.modules.with_prompt(arguments.get("teacher_prompt_name"))
        return SentenceEncoder(teacher.model, teacher.tokenizer, modules)

    @cached_property
    def document_encoder(self) -> SentenceEncoder | None:
        """The teacher with its own maximum length, as it encodes documents for a student with `queries_only`; None for
        other students."""
        if not self.recipe.student.queries_only:
            return None
        teacher, own = self.teacher_model, read_sentence_modules(self.recipe.teacher.source)
        if own is None:
            return teacher
        uncut = replace(teacher.modules, max_length=own.max_length)
        return SentenceEncoder(teacher.model, teacher.tokenizer, uncut)

    @cached_property
    def origin(self) -> SentenceEncoder:
        """The encoder with the students' pooling, maximum length and normalisation: the teacher or, if it is given by
        vectors, the model that the first student is made from."""
        students = self.recipe.arguments.get("pooler", "mean")
        made_of = self._made_of_teacher.model
        return self.teacher_model or load_sentence_teacher(made_of, self.recipe.data.max_length, otherwise=students)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of student and assistant."""
        return static_tokenizer(self._tokenizer) if self._made_of_teacher.static else self._tokenizer

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of student and assistant, with special tokens."""
        if model := self._made_of_teacher.model:
            return AutoTokenizer.from_pretrained(model)
        wanted, theirs, folder = self._made_of_teacher.tokenizer, self.teacher_model.tokenizer, self.recipe.output_dir
        return student_tokenizer(wanted, theirs, lambda: self.corpus.texts, folder, save=not self.dry_run)

    @property
    def _made_of_teacher(self) -> Student:
        """Settings of the first model after the teacher: the assistant, or the student if there is none."""
        assistant = self.recipe.assistant
        if assistant is None:
            return self.recipe.student
        return assistant.student or Student(model=assistant.model)

    def start(self) -> PreTrainedModel:
        """The first model after the teacher (assistant or student), before its first stage."""
        student = self._made_of_teacher
        if student.static:
            return self._static.model()
        if student.model:
            model = load_encoder(student.model, dtype=torch.float32).eval()
            return shrink(model, **student.shrink_settings).eval() if student.shrink_settings else model
        own = {"tokenizer": self.tokenizer, "teacher_tokenizer": self.teacher_model.tokenizer}
        return shrink(self.teacher_model.model, **student.shrink_settings, **own if student.tokenizer else {}).eval()

    @cached_property
    def _static(self) -> StaticStart:
        student, arguments = self.recipe.student, self.recipe.arguments
        teacher = self.teacher_model
        if student.model:
            pooler, max_length = arguments.get("teacher_pooler", "mean"), self.recipe.data.max_length
            teacher = load_sentence_teacher(student.model, max_length, otherwise=pooler)
        own = self._tokenizer if student.tokenizer else None
        return StaticStart(teacher, student.static, own, self.recipe.output_dir)

    def as_sentence_model(self, model: PreTrainedModel | SentenceEncoder | str | Path) -> SentenceEncoder:
        """A student or an assistant with its pooling and modules, including a kept projector of a saved model."""
        if isinstance(model, SentenceEncoder):
            return model.cut_at(self.origin.max_length)
        if not isinstance(model, PreTrainedModel):
            saved = read_sentence_modules(model)
            if saved and saved.has_dense:
                return SentenceEncoder.from_pretrained(model).cut_at(self.origin.max_length)
            model = load_encoder(model, dtype=torch.float32).eval()
        theirs = self.origin.modules
        plain = SentenceModules.plain(self._arguments["pooler"], theirs.max_length, normalize=theirs.normalizes)
        return SentenceEncoder(model, self.tokenizer, plain)

    # --- Runs ---------------------------------------------------------------------------------------------------------

    @property
    def introduction(self) -> str:
        return f"Teacher: {self.recipe.teacher.title}. {self.corpus.introduction}"

    @property
    def parent(self) -> str | None:
        """The finished assistant; None if there is none, or if it is trained first."""
        return self.recipe.assistant and self.recipe.assistant.model

    def parent_run(self) -> StagedRun | None:
        if self.recipe.teacher.vectors:  # join them with the texts before any model is loaded
            rows_of_stages(self.recipe.stages, self._texts_of_rows)
            self._dev_texts()
        assistant = self.recipe.assistant
        if assistant is None or assistant.model:
            return None
        return self._run("assistant", assistant.stages, self.start())

    @property
    def starts_slowly(self) -> bool:
        return bool(self.recipe.student.static) and not self._static.is_made

    def outline(self, parent: Parent | None = None) -> StagedRun:
        static = self.recipe.student.static
        return self._run("stages", self.recipe.stages, self._static.outline()) if static else self.staged_run(parent)

    def staged_run(self, parent: Parent | None = None) -> StagedRun:
        if parent is None:
            return self._run("stages", self.recipe.stages, self.start())
        model = parent
        if not isinstance(model, PreTrainedModel):
            model = load_sentence_teacher(parent, self.recipe.data.max_length, self._arguments["pooler"]).model
        student = shrink(model, **self.recipe.student.shrink_settings).eval()
        return self._run("stages", self.recipe.stages, student, assistant=parent)

    def _run(
        self, folder: str, stages: Sequence[Stage], student: PreTrainedModel, assistant: Parent | None = None
    ) -> StagedRun:
        if self.recipe.student.queries_only:
            check_space(self.recipe, student.config.hidden_size, self.teacher_model.embedding_size)
        return self._staged_run(
            folder,
            stages,
            student,
            self.recipe.teacher.source or None,
            data=self._rows(stages),
            assistant=assistant,
            eval_dataset=self._dev_rows(),
            processing_class=self.tokenizer,
            teacher_processing_class=self.teacher_model and self.teacher_model.tokenizer,
            arguments=self._arguments,
            score=self._score if self.corpus.dev else None,
        )

    @property
    def _arguments(self) -> Mapping[str, Any]:
        modes = self.origin.modules.pooling.modes
        # Students don't support concatenated poolings.
        same = {"pooler": modes[0] if len(modes) == 1 and not self._made_of_teacher.static else "mean"}
        if len(modes) == 1 and self.teacher_model:
            same["teacher_pooler"] = modes[0]
        return same | dict(self.recipe.arguments)

    def _score(self, student: PreTrainedModel | SentenceEncoder) -> dict[str, float]:
        """The mean score of all development sets, and each score if there are several."""
        scores = sts_of_each(self.as_sentence_model(student), self.corpus.dev)
        several = {f"sts_{name}": score for name, score in scores.items()} if len(scores) > 1 else {}
        return {"sts": fmean(scores.values())} | several

    # --- Rows ---------------------------------------------------------------------------------------------------------

    def _rows(self, stages: Sequence[Stage]) -> Mapping[str, Dataset]:
        settings, texts = {"max_length": self.origin.max_length}, self._texts_of_rows
        prompts = prompts_of_rows(self.recipe, stages, self.teacher_model and self.teacher_model.modules)
        readers = {
            "train": lambda: self._tokenized(texts["train"](), prompts["train"]),
            "queries": lambda: self._tokenized(texts["queries"](), prompts["queries"]),
            "groups": lambda: tokenize_groups(texts["groups"](), self.tokenizer, **settings),
            "translations": lambda: tokenize_groups(
                texts["translations"](), self.tokenizer, **settings, **self._of_teacher(prompts["translations"])
            ),
        }
        return rows_of_stages(stages, readers)

    @property
    def _texts_of_rows(self) -> Mapping[str, Callable[[], Dataset]]:
        """Kind of rows -> function that reads their texts, with a teacher's vectors if it is given by vectors."""
        return {
            "train": lambda: self._beside_vectors(self.corpus.texts, "text"),
            "queries": lambda: self._beside_vectors(self.corpus.queries, "text"),
            "groups": lambda: self.corpus.groups,
            "translations": lambda: self._beside_vectors(self.corpus.translations, "source"),
        }

    def _beside_vectors(self, texts: Dataset, column: str) -> Dataset:
        found = [with_vectors(texts, rows, column=column, source=name) for name, rows in self._vectors.items()]
        if len(found) < 2:
            return found[0] if found else texts
        return combine_vectors(found, self.recipe.teacher.combine or "concatenate")

    @cached_property
    def _vectors(self) -> Mapping[str, Dataset]:
        return {source: read_vectors(source) for source in self.recipe.teacher.vector_sources}

    def _of_teacher(self, prompt_name: str | None = None) -> Mapping[str, Any]:
        """Arguments of `tokenize` for the teacher."""
        if self.teacher_model is None:
            return {"vectors": VECTORS}
        return {
            "teacher_tokenizer": self.teacher_model.tokenizer,
            "teacher_prompt": self.teacher_model.modules.prompt(prompt_name),
        }

    def _dev_rows(self) -> Dataset | None:
        texts = self._dev_texts()
        return texts and self._tokenized(texts)

    def _dev_texts(self) -> Dataset | None:
        pairs = next(iter(self.corpus.dev.values()), None)
        if pairs is None or (self.recipe.teacher.vectors and not self._evaluates):
            return None
        return self._beside_vectors(pairs.rename_column("sentence1", "text"), "text")

    @property
    def _evaluates(self) -> bool:
        """Whether a stage evaluates while it trains, for which vectors of the development set are needed."""
        return any(self.recipe.arguments_of(stage).get("eval_strategy", "no") != "no" for stage in self.recipe.stages)

    def _tokenized(self, texts: Dataset, prompt_name: str | None = None) -> Dataset:
        settings = self._of_teacher(prompt_name)
        return tokenize(texts, self.tokenizer, max_length=self.origin.max_length, **settings)

    # --- The finished student -----------------------------------------------------------------------------------------

    def report(
        self, parent: Parent | None, untrained: PreTrainedModel, results: Sequence[StageResult]
    ) -> Report | None:
        if not self.corpus.has_tests:
            return None
        print("\nMeasuring quality, size and speed ...", flush=True)
        corpus, best, models, documents = self.corpus, best_stage(results), {}, self.document_encoder
        if parent is not None:  # the student is compared with the assistant
            models["assistant"] = Role.TEACHER, self.as_sentence_model(parent)
        if self.teacher_model:
            name = self.recipe.teacher.title.rsplit("/", 1)[-1]
            others = {"assistant", "student", *(f"after {stage.name}" for stage in results)}
            title = f"{name} (teacher)" if name.removesuffix(", untrained") in others else name
            models[title] = Role.TEACHER, documents or self.teacher_model
        if parent is None:
            if documents is None:  # otherwise its embeddings can't be compared with the teacher's documents
                models["student, untrained"] = Role.UNTRAINED, self.as_sentence_model(untrained)
        else:
            if not self.parent:
                models["assistant, untrained"] = Role.UNTRAINED, self.as_sentence_model(self.start())
            for stage in results:
                if stage is not best:
                    models[f"after {stage.name}"] = Role.STUDENT, self.as_sentence_model(stage.folder)
        models["student"] = Role.STUDENT, self.as_sentence_model(best.folder)
        of_pair = " Documents are encoded by the teacher; own documents: by the model itself." if documents else ""
        report = side_by_side(
            models,
            partial(corpus.quality, document_encoder=documents),
            corpus.sample,
            best.log_history,
            measured=corpus.measured + of_pair,
            test_set=corpus.test_set,
            dev_names={"sts": "mean STS Spearman" if len(corpus.dev) > 1 else "STS Spearman"},
        )
        return replace(report, vectors=self._short_vectors(best.folder))

    def _short_vectors(self, student: Path) -> tuple[VectorRow, ...]:
        """The student's embeddings at each dimension that a stage trained, in each precision; empty if no stage did."""
        settings = map(self.recipe.arguments_of, self.recipe.stages)
        trained = [each for each in settings if each.get("truncate_dims") or each.get("quantization_aware")]
        if not trained:
            return ()
        model = SentenceEncoder.from_pretrained(student).cut_at(self.origin.max_length)
        dims = {model.embedding_size, *(d for each in trained for d in each.get("truncate_dims") or ())}
        sizes, sample = sorted(dims, reverse=True), self.corpus.sample
        return short_vectors(model, self.corpus.quality, sizes, read_int8_ranges(student), sample)

    @property
    def tests(self) -> Mapping[str, Dataset]:
        return self.corpus.tests

    @property
    def card_facts(self) -> Mapping[str, Any]:
        if not self.document_encoder:
            return {"data": self.corpus.data}
        limit = f"It encodes queries. Encode documents with {self.recipe.teacher.title}, whose vectors it imitates."
        return {"data": self.corpus.data, "limits": (limit,)}

    def _publish(self, results: Sequence[StageResult], report: Report | None, keep_card: bool) -> None:
        super()._publish(results, report, keep_card)
        if self.document_encoder:
            save_router(self.as_sentence_model(best_stage(results).folder), self.document_encoder, self._router)
            print(f"Queries by the student, documents by the teacher: {self._router}/")

    @property
    def _router(self) -> Path:
        return Path(self.recipe.output_dir) / "router"

    def how_to_use(self) -> str:
        folder = self.recipe.output_dir
        if self.recipe.student.queries_only:
            return (
                "from sentence_transformers import SentenceTransformer\n"
                f'model = SentenceTransformer("{self._router}")\n'
                'similarities = model.similarity(model.encode_query(["..."]), model.encode_document(["..."]))'
            )
        code = ", trust_remote_code=True" if hasattr(AutoConfig.from_pretrained(folder), "auto_map") else ""
        return (
            "from sentence_transformers import SentenceTransformer\n"
            f'embeddings = SentenceTransformer("{folder}"{code}).encode(["A vessel to distil in.", "A glass retort."])'
        )
