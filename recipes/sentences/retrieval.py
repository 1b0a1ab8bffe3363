"""Retrieval of documents by queries, with the documents' vectors of the same or of another encoder."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from ...evaluation.sentences import distinct, own_document_ranks
from ...modeling.encoding import SentenceEncoder

OWN = ", own documents"


def ranks_of_documents(
    model: SentenceEncoder, queries: Sequence[str], documents: Sequence[str], document_encoder: SentenceEncoder | None
) -> Mapping[str, Tensor]:
    """Rank of each query's document among all documents, by cosine similarity.

    Args:
        model: the encoder of the queries.
        queries: the queries.
        documents: as many documents; each is that of the query in the same place. Equal ones are one document.
        document_encoder: the encoder of the documents in asymmetric retrieval; None for `model` itself.

    Returns:
        Suffix for names of scores -> `[queries]` ranks from 1. With a `document_encoder`, also the ranks among the
        documents of `model`, under `OWN`.
    """
    first, own = distinct(documents)
    documents = [documents[row] for row in first]
    asked = model.encode_query(queries)
    among_own = own_document_ranks(asked, model.encode_document(documents), own)
    if document_encoder is None:
        return {"": among_own}
    if document_encoder is model:
        return {"": among_own, OWN: among_own}
    return {"": own_document_ranks(asked, document_encoder.encode_document(documents), own), OWN: among_own}
