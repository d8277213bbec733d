"""Chat templates: the LLM's own template, one of the study file, or a default.

A candidate's processor holds the template together with its arguments and its date, so training,
evaluation and exports render the same text. Texts are tokenised without adding special tokens,
since the template writes them.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import date
from typing import TYPE_CHECKING

from mordal_optuna.errors import ModelError
from mordal_optuna.pool import TemplateOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import PreTrainedTokenizerBase

IMAGE_TOKEN = "<image>"
# An LLM's template; several by name; or none.
Template = str | dict[str, str] | None

# LLaVA-1.5's layout: "USER: <image>\n{question} ASSISTANT: {answer}</s>".
DEFAULT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    " ASSISTANT: {% for part in message['content'] %}{{ part['text'] }}{% endfor %}{{ eos_token }}"
    "{% else %}"
    "USER: "
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)

# LLMs' own templates expect the content to be a string. This prefix converts lists of parts to a
# string, with "<image>\n" for an image, and leaves the template itself unchanged.
_FLATTEN = (
    "{%- set flat = namespace(messages=[]) -%}"
    "{%- for message in messages -%}"
    "{%- if message['content'] is string -%}"
    "{%- set flat.messages = flat.messages + [message] -%}"
    "{%- else -%}"
    "{%- set text = namespace(value='') -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{%- set text.value = text.value + '<image>\n' -%}"
    "{%- else -%}{%- set text.value = text.value + part['text'] -%}{%- endif -%}"
    "{%- endfor -%}"
    "{%- set flat.messages = flat.messages "
    "+ [{'role': message['role'], 'content': text.value}] -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- set messages = flat.messages -%}"
)


# Variables whose value is known for the use here, set where a template reads them and the study
# file does not: a think block before an answer would be trained, and scored as the answer.
_KNOWN: dict[str, bool | int | float | str | None] = {"enable_thinking": False}
# Variables that the renderer sets.
_RESERVED = ("messages", "add_generation_prompt", "bos_token", "eos_token", "pad_token", "tools")
_MARKERS = re.compile(r"\{%-?\s*generation\s*-?%\}")
# Directives of strftime that templates may use; the time of the day is midnight.
_DIRECTIVES = "aAbBdeHIjmMpSyYFT"


def chat_template(
    tokenizer: PreTrainedTokenizerBase,
    options: TemplateOptions | None = None,
    *,
    name: str = "the LLM",
) -> str:
    """The chat template of a candidate.

    Args:
        tokenizer: tokenizer of the candidate's LLM.
        options: template, arguments and date of the study file; None for none.
        name: name of the LLM, for errors.

    Returns:
        The template, extended to accept images, with its arguments and its date; the default if
        the LLM has none.

    Raises:
        ModelError: if the template does not read an argument of the study file.
    """
    options = options or TemplateOptions()
    own = options.text or _own_template(tokenizer.chat_template)
    if own is None and not options.arguments:
        return _default_template(options.system)
    used = _used_options(own or "", options, name)
    settings = "".join(f"{{%- set {key} = {_literal(value)} -%}}" for key, value in used.arguments)
    return settings + (_frozen(used.date) if used.date else "") + _FLATTEN + (own or "")


def template_identity(
    template: Template, options: TemplateOptions, *, name: str = "the LLM"
) -> dict[str, str]:
    """What shapes the rendering beside the LLM's own files.

    Empty for an LLM whose template takes no options, so that its runs keep the addresses that
    they had before there were options.

    Args:
        template: the LLM's own template, see `load_template`.
        options: template, arguments and date of the study file.
        name: name of the LLM, for errors.

    Raises:
        ModelError: if the template does not read an argument of the study file.
    """
    own = options.text or _own_template(template)
    if own is None:
        return {} if options.system is None else {"system prompt": options.system}
    used = _used_options(own, options, name)
    marks = {}
    if used.text is not None:
        marks["template"] = hashlib.sha256(used.text.encode()).hexdigest()
    elif not isinstance(template, str):
        marks["template"] = "the one named default"
    if used.arguments:
        marks["template arguments"] = json.dumps(dict(used.arguments))
    if used.date:
        marks["template date"] = used.date
    if marks_answers(own):
        marks["trained tokens"] = "those between generation markers"
    return marks


def marks_answers(template: str) -> bool:
    """Whether a template marks what the assistant writes, by `{% generation %}`.

    Args:
        template: text of the template.
    """
    return bool(_MARKERS.search(template))


def joins_parts(template: str) -> bool:
    """Whether a template joins the parts of each turn to one text before it does anything else.

    Turns whose parts are joined by `joined_parts` are then rendered the same, and faster.

    Args:
        template: text of the template.
    """
    return _FLATTEN in template


def joined_parts(content: Sequence[Mapping[str, str]]) -> str:
    """The parts of a turn as one text, as templates of `chat_template` join them.

    Args:
        content: texts and images.
    """
    return "".join(
        f"{IMAGE_TOKEN}\n" if part["type"] == "image" else part["text"] for part in content
    )


def _default_template(system: str | None) -> str:
    """The default with a system prompt before the first turn, as in LLaVA's conversation `v1`."""
    if system is None:
        return DEFAULT_TEMPLATE
    begin = "{{ bos_token }}"
    assert DEFAULT_TEMPLATE.startswith(begin)
    return f"{begin}{{{{ {_literal(system + ' ')} }}}}{DEFAULT_TEMPLATE.removeprefix(begin)}"


def _own_template(template: Template) -> str | None:
    """The LLM's template; of several that have names the one that is named `default`."""
    if isinstance(template, dict):
        template = template.get("default")
    return template or None


def _used_options(template: str, options: TemplateOptions, name: str) -> TemplateOptions:
    """The options that change what a template writes, known arguments included."""
    for key, _ in options.arguments:
        if not _reads(template, key) or key in _RESERVED:
            raise ModelError(
                name,
                f"template_args has {key!r}, which its chat template does not read; arguments "
                "must be variables of the template",
            )
    known = {key: value for key, value in _KNOWN.items() if _reads(template, key)}
    arguments = tuple(sorted({**known, **dict(options.arguments)}.items()))
    dated = options.date if _reads(template, "strftime_now") else None
    return TemplateOptions(options.text, arguments, dated)


def _reads(template: str, variable: str) -> bool:
    return re.search(rf"(?<![\w.'\"]){re.escape(variable)}(?![\w'\"])", template) is not None


def _literal(value: bool | float | str | None) -> str:
    """A value as Jinja writes it; unlike in JSON, null is called none."""
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _frozen(day: str) -> str:
    """A `strftime_now` for the template that always formats the same day."""
    shown = date.fromisoformat(day)
    replaced = "".join(f"| replace('%{d}', '{shown.strftime(f'%{d}')}')" for d in _DIRECTIVES)
    return f"{{%- macro strftime_now(format) -%}}{{{{ format {replaced} }}}}{{%- endmacro -%}}"
