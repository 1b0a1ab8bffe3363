from .glue import MEASURES, Glue
