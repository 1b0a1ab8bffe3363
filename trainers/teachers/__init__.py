"""Teachers: live models, cached outputs, and given vectors."""

from .cached import PREFIX, CachedTeacher, cache_teacher, check_cache, describe_cache, open_cache
from .live import LiveTeacher, model_of, place_teacher, too_long
from .loading import TeacherSource, load_teacher, outline_teacher
from .scores import load_reranker, score_groups
from .vector_files import write_vectors
from .vectors import GivenVectors, first_cache, teacher_dimensions, vector_width
