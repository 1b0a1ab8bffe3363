"""Teachers: live models, and cached outputs."""

from .cached import PREFIX, CachedTeacher, cache_teacher, open_cache, with_teacher_outputs
from .live import LiveTeacher, TeacherSource, common_dimensions, load_teacher, model_of, place_teacher
from .rows import check_prompts
