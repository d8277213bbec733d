"""Mistral-7B-Instruct-v0.3: no generation prompt; a system prompt joins the last question only.

Source: mistralai/Mistral-7B-Instruct-v0.3, tokenizer_config.json and generation_config.json, as
quoted in public repositories. Where an answer comes last, the system prompt is not written at all.
"""

from tests.families.chat import Chat

MISTRAL = Chat(
    name="mistral-v0.3",
    architecture="mistral",
    template=(
        "{%- set turns = messages %}"
        "{%- if messages[0]['role'] == 'system' %}"
        "{%- set system = messages[0]['content'] %}{%- set turns = messages[1:] %}{%- endif %}"
        "{{- bos_token }}"
        "{%- for turn in turns %}"
        "{%- if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{- raise_exception('roles must alternate user/assistant/...') }}{%- endif %}"
        "{%- if turn['role'] == 'user' %}"
        "{%- if loop.last and system is defined %}"
        "{{- '[INST] ' + system + '\n\n' + turn['content'] + '[/INST]' }}"
        "{%- else %}{{- '[INST] ' + turn['content'] + '[/INST]' }}{%- endif %}"
        "{%- else %}{{- ' ' + turn['content'] | trim + eos_token }}{%- endif %}"
        "{%- endfor %}"
    ),
    special=("<unk>", "<s>", "</s>", "[INST]", "[/INST]"),
    bos="<s>",
    eos="</s>",
    adds_bos=True,
    stops=("</s>",),
    rendered=(
        "<s>[INST] <image>\nWhat color is it?[/INST] red</s>[INST] Where is it?[/INST] north</s>"
    ),
    stop=("</s>",),
)
