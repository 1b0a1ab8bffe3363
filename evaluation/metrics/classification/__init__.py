from .classification import Classification
