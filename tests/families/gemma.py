"""Gemma 2 and 3: turns end with <end_of_turn>, which is not the tokenizer's eos.

Source: google/gemma-2-2b-it and google/gemma-3-1b-it, tokenizer_config.json and
generation_config.json, as quoted in public repositories. Early releases name <eos> alone in
generation_config.json. Gemma 2 refuses a system turn; Gemma 3 puts it before the first question.
"""

from tests.families.chat import Chat

_REFUSED = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% set first = '' %}{% set turns = messages %}"
)
_PREFIXED = (
    "{{ bos_token }}"
    "{% set first = '' %}{% set turns = messages %}"
    "{% if messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'] + '\n\n' %}{% set turns = messages[1:] %}{% endif %}"
)
_TURNS = (
    "{% for turn in turns %}"
    "{% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/...') }}{% endif %}"
    "{% set role = 'model' if turn['role'] == 'assistant' else turn['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + (first if loop.first else '') }}"
    "{{ turn['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
_RENDERED = (
    "<bos><start_of_turn>user\n<image>\nWhat color is it?<end_of_turn>\n"
    "<start_of_turn>model\nred<end_of_turn>\n"
    "<start_of_turn>user\nWhere is it?<end_of_turn>\n"
    "<start_of_turn>model\nnorth<end_of_turn>\n"
)
_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")

GEMMA2 = Chat(
    name="gemma-2-it",
    architecture="gemma2",
    template=_REFUSED + _TURNS,
    special=_SPECIAL,
    bos="<bos>",
    eos="<eos>",
    pad="<pad>",
    adds_bos=True,
    stops=("<eos>",),
    generation={"cache_implementation": "hybrid"},
    config={"final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0},
    rendered=_RENDERED,
    stop=("<eos>", "<end_of_turn>"),
)
GEMMA3 = Chat(
    name="gemma-3-it",
    architecture="gemma3",
    template=_PREFIXED + _TURNS,
    special=_SPECIAL,
    bos="<bos>",
    eos="<eos>",
    pad="<pad>",
    adds_bos=True,
    stops=("<eos>", "<end_of_turn>"),
    generation={
        **{"cache_implementation": "hybrid", "do_sample": True},
        **{"top_k": 64, "top_p": 0.95},
    },
    rendered=_RENDERED,
    stop=("<eos>", "<end_of_turn>"),
)
