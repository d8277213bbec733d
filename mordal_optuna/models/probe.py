"""Checks of an LLM's chat template, before its weights are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from mordal_optuna.errors import ModelError
from mordal_optuna.models.generation import load_chat, own_generation
from mordal_optuna.models.template import IMAGE_TOKEN
from mordal_optuna.models.turns import Turns, stop_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import PreTrainedTokenizerBase

    from mordal_optuna.models.generation import Chat
    from mordal_optuna.pool import ModelSource


def _turn(role: str, text: str, *, image: bool = False) -> dict[str, Any]:
    picture = [{"type": "image"}] if image else []
    return {"role": role, "content": [*picture, {"type": "text", "text": text}]}


_CONVERSATION = (
    _turn("user", "What is it?", image=True),
    _turn("assistant", "A box."),
    _turn("user", "Which color?"),
    _turn("assistant", "Red."),
)


def check_chat(
    source: ModelSource, conversations: Sequence[Sequence[Mapping[str, Any]]] = ()
) -> None:
    """Check that an LLM can be trained on conversations of several turns, and learns to stop.

    Args:
        source: the LLM, and how its chat template is used.
        conversations: turns of further conversations to render.

    Raises:
        ModelError: if the template cannot render a conversation or leaves answers or images out,
            if no stop token is trained, or if the tokenizer cannot be loaded.
    """
    chat = load_chat(source)
    stops = set(stop_tokens(chat, own_generation(source)))
    for messages in (_CONVERSATION, *conversations):
        _check(source.name, chat, messages, stops)


def _check(name: str, chat: Chat, messages: Sequence[Mapping[str, Any]], stops: set[int]) -> None:
    try:
        rendered = Turns(chat).render(messages)
    except (TemplateError, ValueError) as error:
        raise ModelError(
            name, f"a conversation of {len(messages)} turns cannot be trained on ({error})"
        ) from error
    said = [rendered.text[begin:end] for begin, end in rendered.answers]
    images = sum(part["type"] == "image" for m in messages for part in m["content"])
    if rendered.text.count(IMAGE_TOKEN) != images:
        raise ModelError(
            name,
            f"its chat template writes {rendered.text.count(IMAGE_TOKEN)} placeholders for "
            f"{images} images; it must write one for each",
        )
    trained = {token for text in said for token in _ids(chat.tokenizer, text)}
    if not trained & stops:
        named = ", ".join(repr(chat.tokenizer.decode([token])) for token in sorted(stops))
        shown = " and ".join(map(repr, said)) or "nothing"
        raise ModelError(
            name,
            f"it would never learn to stop: of its chat template {shown} is trained, without any "
            f"of the stop tokens {named}; an answer must end with one (option `chat_template`)",
        )


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
