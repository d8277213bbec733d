"""Generates answers to conversations, and measures the likelihood of references."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig

from mordal_optuna.evaluation.cache import is_supported
from mordal_optuna.evaluation.decoding import Decoded, Decoder, Limits
from mordal_optuna.evaluation.reading import PromptReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lmms_eval.protocol import ChatMessages
    from transformers import PreTrainedModel, ProcessorMixin

    from mordal_optuna.evaluation.reading import Prompt


@dataclass(frozen=True)
class Answer:
    """The answer to a conversation.

    Attributes:
        text: generated text, without special tokens.
        tokens: number of generated tokens.
        cut: whether generation ended at the token limit instead of a stop token.
        likelihood: -ln p of the reference answer in nats; None without a reference.
    """

    text: str
    tokens: int
    cut: bool
    likelihood: float | None


class Answerer:
    """Generates answers to several conversations at once."""

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        *,
        adds_special_tokens: bool = False,
    ) -> None:
        """Use a model that is in evaluation mode.

        Args:
            model: a LLaVA-style model.
            processor: tokenizer, image processor and chat template of the model.
            adds_special_tokens: whether the tokenizer adds its special tokens, such as BOS, to
                prompts that do not begin with BOS; as transformers does with published models.
        """
        self._model = model
        self._processor = processor
        self._reader = PromptReader(model, processor, adds_special_tokens=adds_special_tokens)
        self._pad: int = processor.tokenizer.pad_token_id

    def answer(
        self,
        conversations: Sequence[ChatMessages],
        options: dict[str, Any],
        references: Sequence[str] | None,
    ) -> list[Answer]:
        """Answer conversations, all at once; each answer equals that of a batch of one.

        Args:
            conversations: questions with their images.
            options: fields of a generation configuration; the model's own is not used.
            references: reference answer of each conversation, whose likelihood is measured; None
                to measure none.

        Raises:
            ValueError: if a conversation holds video or audio, or the chat template rewrites a
                prompt when an answer follows it.
        """
        asked = references if references is not None else [None] * len(conversations)
        prompts = [self.prepare(c, r) for c, r in zip(conversations, asked, strict=True)]
        answers = dict(self.stream(prompts, options, len(prompts)))
        return [answers[number] for number in range(len(prompts))]

    def prepare(self, conversation: ChatMessages, reference: str | None) -> Prompt:
        """Render, tokenise and resize a conversation; several threads may do so at once.

        Args:
            conversation: question with its images.
            reference: reference answer whose likelihood will be measured; None for none.

        Raises:
            ValueError: if the conversation holds video or audio, or the chat template rewrites the
                prompt when an answer follows it.
        """
        return self._reader.read(conversation, reference)

    @torch.no_grad()  # not inference mode: what FSDP gathers in it cannot be trained on after
    def stream(
        self, prompts: Iterable[Prompt], options: dict[str, Any], size: int
    ) -> Iterator[tuple[int, Answer]]:
        """Answer prompts, of which at most `size` are in memory at once.

        Beam search, sampling, and LLMs that cache more than keys and values answer in padded
        batches, by transformers' own `generate`.

        Args:
            prompts: prompts, best with those on one image together and long ones first.
            options: fields of a generation configuration; the model's own is not used.
            size: largest number of prompts at once.

        Yields:
            Number and answer of each prompt, in the order in which the answers end.
        """
        limits = Limits(frozenset(_stop_ids(options)), options["max_new_tokens"])
        greedy = options["num_beams"] == 1 and not options["do_sample"]
        left = iter(prompts)
        if greedy and is_supported(self._model.config.get_text_config()):
            decoder = Decoder(self._model, limits, size=size, pad=self._pad)
            for decoded in decoder.run(left):
                yield decoded.number, self._answer(decoded, limits)
            return
        first = 0
        while batch := list(islice(left, size)):
            for decoded in self._generated(batch, options):
                answer = self._answer(replace(decoded, number=first), limits)
                yield first, answer
                first += 1

    @torch.no_grad()  # as in `stream`
    def read(self, conversations: Sequence[ChatMessages]) -> tuple[torch.Tensor, torch.Tensor]:
        """Last hidden states and next-token logits of prompts, without generating an answer.

        Args:
            conversations: questions with their images.

        Returns:
            The LLM's last hidden states, prompts x width, and the logits of the next token,
            prompts x vocabulary; both at the last token of each prompt, in single precision.

        Raises:
            ValueError: if a conversation holds video or audio.
        """
        prompts = [self.prepare(c, None) for c in conversations]
        ids, mask = self._padded([prompt.ids for prompt in prompts])
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=_positions(mask),
            output_hidden_states=True,
            logits_to_keep=1,
            use_cache=False,
            **self._images(prompts),
        )
        return output.hidden_states[-1][:, -1].float(), output.logits[:, -1].float()

    def answer_ids(self, conversation: ChatMessages, answer: str) -> torch.Tensor:
        """Token ids of an answer and its end of turn, tokenised as in alignment.

        Args:
            conversation: question with its images.
            answer: text of the assistant's turn.

        Raises:
            ValueError: if the chat template rewrites the prompt when an answer follows it.
        """
        ids = self._reader.answer_ids(conversation, answer)
        return torch.tensor(ids, device=self._model.device)

    def _answer(self, decoded: Decoded, limits: Limits) -> Answer:
        """The answer as text; it is cut if it has as many tokens as allowed and none stops it.

        A limit of one token, which tasks set to read a single letter, leaves no room for a stop
        token and counts as uncut.
        """
        tokens = decoded.tokens
        # A stop token may be an ordinary token, which the tokenizer would not skip.
        said = [token for token in tokens if token not in limits.stops]
        text = self._processor.tokenizer.decode(said, skip_special_tokens=True)
        count = sum(token != self._pad for token in tokens)
        full = limits.tokens > 1 and len(tokens) >= limits.tokens
        cut = full and limits.stops.isdisjoint(tokens)
        return Answer(text, count, cut, decoded.likelihood)

    def _generated(self, prompts: Sequence[Prompt], options: dict[str, Any]) -> list[Decoded]:
        """Answers by transformers' `generate`, to prompts that are padded on the left."""
        ids, mask = self._padded([prompt.ids for prompt in prompts])
        # Image placeholders are suppressed, since there are no features for them.
        settings = GenerationConfig(**options, suppress_tokens=[self._model.config.image_token_id])
        with _no_own_settings(self._model):
            output = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=settings,
                **self._images(prompts),
            )
        new = output[:, ids.shape[1] :].tolist()
        likelihoods: Sequence[float | None] = [None] * len(prompts)
        references = [p.reference for p in prompts if p.reference is not None]
        if references:
            likelihoods = self._likelihoods(prompts, references)
        return [Decoded(0, tokens, p) for tokens, p in zip(new, likelihoods, strict=True)]

    def _images(self, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
        """The images of prompts as an argument of the model; none if no prompt has any."""
        values = [p.pixels.values for p in prompts if p.pixels and p.pixels.values is not None]
        return {"pixel_values": torch.cat(values).to(self._model.device)} if values else {}

    def _padded(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and mask, padded on the left."""
        longest = max(len(row) for row in rows)
        ids = [[*[self._pad] * (longest - len(row)), *row] for row in rows]
        mask = [[*[0] * (longest - len(row)), *[1] * len(row)] for row in rows]
        device = self._model.device
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)

    def _likelihoods(
        self, prompts: Sequence[Prompt], references: Sequence[list[int]]
    ) -> list[float]:
        """-ln p of each reference after its prompt, as `Decoder` measures it."""
        rows = [[*p.ids, *r] for p, r in zip(prompts, references, strict=True)]
        ids, mask = self._padded(rows)
        # Left padding aligns the ends of all references: only the last logits are needed.
        longest = max(len(reference) for reference in references)
        logits = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=_positions(mask),
            use_cache=False,
            logits_to_keep=longest + 1,
            **self._images(prompts),
        ).logits
        log_probabilities = torch.log_softmax(logits[:, :-1].float(), dim=-1)
        per_token = log_probabilities.gather(-1, ids[:, -longest:, None])[..., 0]
        return [
            float(-row[longest - len(r) :].sum())
            for row, r in zip(per_token, references, strict=True)
        ]


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """Positions of tokens that are padded on the left."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def _stop_ids(options: dict[str, Any]) -> list[int]:
    ids = options["eos_token_id"]
    return list(ids) if isinstance(ids, list) else [ids]


@contextmanager
def _no_own_settings(model: PreTrainedModel) -> Iterator[None]:
    """Hide the model's own generation settings, with which transformers fills what is not given.

    A repetition penalty among them would change greedy answers.
    """
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own
