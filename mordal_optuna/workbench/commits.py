"""Commits of models on the hub: looked up once, stored with the study, and used from then on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.errors import ModelError
from mordal_optuna.models.hub import hub_state, is_commit, is_local
from mordal_optuna.search.attributes import COMMITS, store_value, stored_value
from mordal_optuna.study.resuming import has_spent

if TYPE_CHECKING:
    from optuna import Study

    from mordal_optuna.config import StudySettings


def pinned(study: Study, settings: StudySettings, *, begun: bool = False) -> StudySettings:
    """The settings with the commit of every model on the hub, at which it is loaded.

    A study that has spent nothing looks the commits up again; later ones are those it began with,
    even if a branch has moved.

    Args:
        study: the Optuna study; the commits are stored with it.
        settings: the study's settings.
        begun: whether other workers have begun the study, though it may have spent nothing.

    Raises:
        ModelError: if a model cannot be found, or the study stores no commit for it.
    """
    stored: dict[str, str] = stored_value(study.user_attrs, COMMITS) or {}
    known = stored if begun or has_spent(study) else {}
    pool = settings.models()
    sources = {f"vision_encoder:{s.name}": s for s in pool.vision_encoders}
    sources |= {f"llm:{s.name}": s for s in pool.llms}
    for part, commit in known.items():
        # It becomes part of a path in the hub's cache.
        if not is_commit(commit):
            raise ModelError(
                part,
                f"the study's database has {commit!r} for its commit, which must be 40 "
                "hexadecimal digits; begin a new study by `--as NAME`",
            )
    commits = {
        part: known.get(part) or hub_state(source).commit
        for part, source in sources.items()
        if not is_local(source)
    }
    if commits != stored:
        store_value(study, COMMITS, commits)
    return settings.at_commits(commits)
