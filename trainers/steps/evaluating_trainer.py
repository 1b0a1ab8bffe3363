"""A Trainer whose evaluation loss is a mean over the whole dataset, and which predicts with any head."""

import logging
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import EvalPrediction
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput, denumpify_detensorize, has_length

from ...collators import Batch, GroupBatch
from ...modeling import DistillationModel, StudentOutput, is_row_wise, replaced
from ...modeling.encoding import OutputRequest
from .means import RunningMeans
from .step_trainer import StepTrainer

logger = logging.getLogger(__name__)

# Number of rows that are compared with one another in evaluation, if an objective compares rows.
EVALUATION_BLOCK = 32


class EvaluatingTrainer(StepTrainer):
    """Evaluates and predicts like `transformers.Trainer`, with another loss.

    The loss is the weighted sum of the objectives' means, each over all rows (or tokens) for which it has a value. If
    an objective compares rows, it compares fixed blocks of 32 rows, in the dataset's order. The loss doesn't depend on
    `per_device_eval_batch_size`, which is not used then.
    """

    model: DistillationModel
    _compares = True  # False while predict() runs on rows without the columns for a loss

    @abstractmethod
    def check_rows(self, rows: Any, name: str) -> None:
        """Refuse a dataset that would be trained on, or evaluated, with wrong numbers."""

    @abstractmethod
    def exported_embeddings(self, outputs: StudentOutput) -> Tensor:
        """`[rows, features]`, the embeddings that the exported student computes."""

    # --- The loop -----------------------------------------------------------------------------------------------------

    def _get_dataloader(
        self, dataset, description, batch_size, sampler_fn=None, is_training=False, **named
    ) -> DataLoader:
        if is_training:
            return super()._get_dataloader(dataset, description, batch_size, sampler_fn, is_training, **named)
        if any(objective.compares_rows for objective in self.objectives):
            batch_size = EVALUATION_BLOCK
        # Rows that are dropped in training may be used in the next epoch. In evaluation they would be lost.
        with replaced(self.args, dataloader_drop_last=False):
            return super()._get_dataloader(dataset, description, batch_size, sampler_fn, is_training, **named)

    def evaluation_loop(
        self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"
    ) -> EvalLoopOutput:
        """Evaluate or predict (see `Trainer.evaluation_loop`), with the loss of the whole dataset."""
        self._means[False] = RunningMeans()  # a failed evaluation may have left some
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        means = self._take_means(training=False)
        parts = [(o.weight, f"loss_{o.name}") for o in self.objectives]
        output.metrics.pop(f"{metric_key_prefix}_loss", None)  # a mean over batches, with too much weight on the last
        found = {"loss": sum(weight * means[name] for weight, name in parts if name in means)} if means else {}
        predicts_embeddings = not (self.model.request | self._predicted).logits
        if output.label_ids is None and output.predictions is not None and predicts_embeddings:
            found |= self._metrics_without_labels(output)
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in (found | means).items()})
        return output

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Evaluate (see `Trainer.evaluate`). Metrics that callbacks add are logged, too."""
        logged_before = len(self.state.log_history)
        metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        logged = set().union(*self.state.log_history[logged_before:])
        if added := {name: value for name, value in metrics.items() if name not in logged}:
            self.log(added)
        return metrics

    def _metrics_without_labels(self, output: EvalLoopOutput) -> dict[str, float]:
        """Call `compute_metrics` without labels. Trainer only calls it with labels, which embeddings may not need."""
        if self.compute_metrics is None:
            return {}
        if self.args.batch_eval_metrics:
            raise ValueError(
                "batch_eval_metrics needs a column 'labels', which these rows lack. Leave it out: then compute_metrics "
                "gets the embeddings of all rows, with label_ids=None."
            )
        return denumpify_detensorize(self.compute_metrics(EvalPrediction(output.predictions, label_ids=None)))

    # --- Batches ------------------------------------------------------------------------------------------------------

    def get_eval_dataloader(self, eval_dataset=None) -> DataLoader:
        """As in Trainer, with the checks of `check_rows` for a new dataset."""
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            self.check_rows(eval_dataset, "evaluation")
            # Trainer keeps persistent loaders by name, and all datasets that are passed here have the same name.
            getattr(self, "_eval_dataloaders", {}).pop("eval", None)
        return super().get_eval_dataloader(eval_dataset)

    def predict(self, test_dataset, ignore_keys=None, metric_key_prefix: str = "test") -> PredictionOutput:
        """Logits, or the embeddings of the exported student, in the order of the rows (see `Trainer.predict`).

        There is a loss only if the rows have all columns that the objectives need, such as labels or teacher tokens.
        """
        compares = True
        try:
            self.check_rows(test_dataset, "test")
        except ValueError as error:
            if has_length(test_dataset) and not len(test_dataset):
                raise
            logger.warning("predict() computes no loss. %s", error)
            compares = False
        with replaced(self, _compares=compares):
            return super().predict(test_dataset, ignore_keys, metric_key_prefix)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Loss, predictions and labels of one evaluation batch, in the order of its rows, padded with -100."""
        batch = self.read_batch(inputs, training=False).to(self.args.device)
        request = self.model.request if prediction_loss_only else self.model.request | self._predicted
        with replaced(self.model, request=request), torch.no_grad(), self.compute_loss_context_manager():
            if self._compares:
                loss, outputs = self.compute_loss(model, batch, return_outputs=True)
            else:
                loss, outputs = None, model(batch.student, batch.layout)
        given = batch.given_order  # packed batches are sorted
        labels = self.labels_of(batch)
        labels = labels if labels is None else labels[given]
        return loss, None if prediction_loss_only else self._predictions(outputs, batch)[given], labels

    @property
    def _predicted(self) -> OutputRequest:
        """Outputs that predictions need in addition to those of the objectives: logits, or embeddings."""
        if self.model.request.logits or self.model.request.pooler:
            return OutputRequest()
        bare = self.model.student.base_model is self.model.student
        return OutputRequest(pooler=self.args.pooler) if bare else OutputRequest(logits=True)

    def _predictions(self, outputs: StudentOutput, batch: Batch) -> Tensor:
        """Predictions in the batch's order: logits, `[rows, classes]` or `[rows, width, classes]`, or embeddings,
        `[rows, features]`. Those of groups are `[groups, members, features]`, padded with -100."""
        if outputs.encoder.logits is None:
            embeddings = self.exported_embeddings(outputs).float()
            if not isinstance(batch, GroupBatch):
                return embeddings
            members = embeddings[batch.groups]
            if batch.is_ragged:
                members[:, 1:].masked_fill_((batch.scores == -torch.inf)[..., None], -100)
            return members
        logits = outputs.encoder.logits.float()
        of_tokens = len(logits) == batch.layout.tokens and not is_row_wise(self.model.student)
        return batch.layout.pad(logits, -100) if of_tokens else logits

    def labels_of(self, batch: Batch) -> Tensor | None:
        """The labels for the metrics, `[rows]` or `[rows, width]`, in the batch's order."""
        return batch.labels
