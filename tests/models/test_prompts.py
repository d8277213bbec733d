"""Who adds BOS: the tokenizer for published models, nobody for what this package exported."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from transformers import LlavaConfig

from mordal_optuna.models.prompts import TEMPLATE_ONLY, leaves_tokens_to_tokenizer
from mordal_optuna.models.template import chat_template

OWN = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "fields", "expected"),
    [
        (OWN, {}, True),
        (None, {}, True),
        (OWN, {TEMPLATE_ONLY: True}, False),
        # An export of a version that stored no such field is known by its template.
        (chat_template(SimpleNamespace(chat_template=OWN)), {}, False),  # type: ignore[arg-type]
    ],
)
def test_exports_are_told_from_published_models(
    template: str | None, fields: dict[str, bool], expected: bool
) -> None:
    config = LlavaConfig(**fields)
    processor = SimpleNamespace(chat_template=template)
    assert leaves_tokens_to_tokenizer(config, processor) is expected  # type: ignore[arg-type]
