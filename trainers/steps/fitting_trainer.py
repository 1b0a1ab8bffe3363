"""A Trainer that fits the projector of the embeddings before the first step."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...collators import Batch
from ...modeling import evaluating, reshard, shard_like
from ..objectives import least_squares
from .loading_trainer import LoadingTrainer

FITTED_ROWS = 8192


class FittingTrainer(LoadingTrainer):
    """Fits the projector of the embeddings (`fit_projector`) where a training starts, but not where it is resumed.

    A head that starts at random sends gradients into the encoder that distort what it has learnt before (Kumar et al.
    2022, arXiv:2202.10054).
    """

    _embedding_projector: nn.Module | None = None

    def train(self, resume_from_checkpoint=None, **arguments):
        """Train. Fits the projector first if `fit_projector` is set."""
        if self.args.fit_projector and not resume_from_checkpoint:
            self._fit_projector()
        return super().train(resume_from_checkpoint, **arguments)

    def texts_of_teacher(self, embeddings: Tensor, batch: Batch) -> Tensor:
        """The student's embeddings of the texts that the teacher reads."""
        return embeddings

    @torch.no_grad()
    def _fit_projector(self) -> None:
        projector, unit = self._embedding_projector, self.args.embedding_loss == "cosine"
        vectors = []
        with evaluating(self.model.to(self.args.device)), self.accelerator.autocast():
            for batch in self.sampled_batches(FITTED_ROWS, "Fitting the projector"):
                ours = self.model(batch.student, batch.layout).encoder.embedding
                theirs = self.run_teacher(batch).embedding.float()
                theirs = F.normalize(theirs, dim=-1) if unit else theirs
                vectors.append((self.texts_of_teacher(ours, batch).float().cpu(), theirs.cpu()))
        weight, bias = least_squares(*map(torch.cat, zip(*vectors, strict=True)))
        reshard(self.model)  # In a second training, the passes above have left its parameters gathered.
        projector.weight.copy_(shard_like(weight, projector.weight))
        projector.bias.copy_(shard_like(bias, projector.bias))
