"""Models of our own that load as any other: BiLSTMs and recurrent BERTs."""

from . import bilstm, recurrent_bert  # makes them known to the Auto classes
