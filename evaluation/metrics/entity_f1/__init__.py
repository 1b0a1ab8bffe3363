from .entity_f1 import EntityF1
