"""How likely a model finds the reference answers: a second measurement beside the score.

Early in the alignment most scores sit at chance, where they say nothing of a candidate; the
likelihood of the right answers moves from the first step on.

Symbols:
    q, a      prompt of a document, and its reference answer as the chat template ends it
    a_t       token t of the answer
    -ln p     sum over t of -ln p(a_t | q, a_<t), in nats

The sum over the whole answer is taken, not the mean over its tokens: it is the logarithm of a
probability, which means the same whatever words a tokenizer cuts the answer into.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import PreTrainedModel, ProcessorMixin


def answer_ids(processor: ProcessorMixin, messages: list, answer: str, prompt: str) -> list[int]:
    """Token ids of an answer and of what ends it, tokenised as alignment trains them.

    Args:
        processor: carries tokenizer and chat template.
        messages: the conversation up to the answer.
        answer: what the assistant is to say.
        prompt: the conversation as it is rendered before generation.

    Raises:
        ValueError: if the chat template rewrites the prompt once an answer follows.
    """
    turn = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
    whole = processor.apply_chat_template(
        [*messages, turn], add_generation_prompt=False, tokenize=False
    )
    if not whole.startswith(prompt):
        raise ValueError("the chat template rewrites the prompt when an answer follows it")
    ids = processor.tokenizer(whole[len(prompt) :], add_special_tokens=False)["input_ids"]
    return [int(token) for token in ids]


@torch.inference_mode()
def negative_log_likelihoods(
    model: PreTrainedModel,
    inputs: Mapping[str, torch.Tensor],
    answers: Sequence[Sequence[int]],
    pad: int,
) -> list[float]:
    """-ln p of each answer after its prompt, in nats, at least 0.

    Args:
        model: a LLaVA-style model.
        inputs: of the prompts, padded on the left, images expanded; as for `generate`.
        answers: token ids, one list a prompt, none empty.
        pad: id of the padding token.
    """
    prompts, shown = inputs["input_ids"], inputs["attention_mask"]
    # On the left again, so that all answers end together and logits are needed at the end alone.
    rows = [
        torch.cat([row[mask.bool()], row.new_tensor(list(answer))])
        for row, mask, answer in zip(prompts, shown, answers, strict=True)
    ]
    longest, length = max(len(a) for a in answers), max(len(row) for row in rows)
    ids = prompts.new_full((len(rows), length), pad)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, length - len(row) :] = row
        mask[number, length - len(row) :] = 1
    pictures = {k: v for k, v in inputs.items() if k == "pixel_values"}
    logits = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
        logits_to_keep=longest + 1,
        use_cache=False,
        **pictures,
    ).logits
    told = torch.log_softmax(logits[:, :-1].float(), dim=-1)
    wanted = told.gather(-1, ids[:, -longest:, None])[..., 0]
    return [float(-row[longest - len(a) :].sum()) for row, a in zip(wanted, answers, strict=True)]
