"""Teachers: live models, and cached outputs."""

from .cached import PREFIX, CachedTeacher, cache_teacher, open_cache, with_teacher_outputs
from .live import LiveTeacher, common_dimensions, model_of, place_teacher, too_long
from .loading import TeacherSource, load_teacher, outline_teacher
from .scores import load_reranker, score_groups
