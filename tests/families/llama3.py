"""Llama-3.2-Instruct: a system header with the date; no pad token; three eos tokens.

Source: meta-llama/Llama-3.2-3B-Instruct, tokenizer_config.json and generation_config.json, as
quoted in public repositories. Llama-3.1's template differs in one thing: its date is always
26 Jul 2024 unless `date_string` is given.
"""

from tests.families.chat import Chat

_DATED = (
    "{{- bos_token }}"
    "{%- if not date_string is defined %}"
    "{%- if strftime_now is defined %}{%- set date_string = strftime_now('%d %b %Y') %}"
    "{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}"
    "{%- endif %}"
)
_TURNS = (
    "{%- set system = '' %}{%- set turns = messages %}"
    "{%- if messages[0].role == 'system' %}"
    "{%- set system = messages[0].content | trim %}{%- set turns = messages[1:] %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\n' }}"
    "{{- 'Cutting Knowledge Date: December 2023\nToday Date: ' + date_string + '\n\n' }}"
    "{{- system + '<|eot_id|>' }}"
    "{%- for turn in turns %}"
    "{{- '<|start_header_id|>' + turn.role + '<|end_header_id|>\n\n' }}"
    "{{- turn.content | trim + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)

LLAMA3 = Chat(
    name="llama-3.2-instruct",
    architecture="llama-tied",
    template=_DATED + _TURNS,
    special=(
        *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
        *("<|eom_id|>", "<|eot_id|>"),
    ),
    bos="<|begin_of_text|>",
    eos="<|eot_id|>",
    adds_bos=True,
    stops=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
    generation={"do_sample": True, "temperature": 0.6, "top_p": 0.9},
    rendered=(
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        "Cutting Knowledge Date: December 2023\nToday Date: 02 Jan 2026\n\n<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n<image>\nWhat color is it?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nred<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWhere is it?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nnorth<|eot_id|>"
    ),
    stop=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
)
