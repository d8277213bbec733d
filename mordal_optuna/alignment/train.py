"""The training loop: AdamW on projector and LoRA, a fixed global batch, exact resumption.

Symbols:
    B   batch_size, samples of one optimiser step over all ranks
    D   samples of the alignment set
    T   target tokens of the whole global batch

The loss of a step is the sum of cross entropies over all target tokens, divided by T, for any
number of ranks and any size of micro-batches. At each step dropout is seeded by the random seed,
the number of samples and the rank, so a checkpoint needs no state of a random generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mordal_optuna.alignment.batches import Batches
from mordal_optuna.alignment.conversation import Conversations
from mordal_optuna.alignment.features import VisionFeatures
from mordal_optuna.alignment.gradients import ShareGradients
from mordal_optuna.alignment.parallel import is_sharded, sum_over_ranks
from mordal_optuna.alignment.schedule import Average, first_stage, rates
from mordal_optuna.alignment.timing import Clock, Work
from mordal_optuna.alignment.usable import Findings
from mordal_optuna.errors import TrainingError
from mordal_optuna.processes.group import Processes
from mordal_optuna.processes.outages import raised_as
from mordal_optuna.processes.stopping import StopRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from accelerate import Accelerator

    from mordal_optuna.alignment.batches import Share
    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.alignment.features import FeatureCache
    from mordal_optuna.alignment.schedule import Branch
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.models.assemble import Vlm
    from mordal_optuna.processes.guard import Guard
    from mordal_optuna.progress import Advance

# Steps between two checks of losses and claim. A check waits for the device and for rank 0. Losses
# and claim are checked before a checkpoint is written, too.
_CHECK_EVERY = 10
# Samples that are checked before the first of them is trained on.
CHECKED_AHEAD = 16_384


@dataclass(frozen=True)
class TrunkState:
    """The state that training continues from.

    Attributes:
        samples: number of samples trained on so far.
        weights: trained parameters, by name.
        optimizer: state tensors of AdamW, by name of parameter and state, joined by `/`.
        average: running average of the weights; None if the recipe has none.
    """

    samples: int
    weights: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, torch.Tensor]
    average: Mapping[str, torch.Tensor] | None


@dataclass(frozen=True)
class _Report:
    """What a rank tells the others before gradients are summed.

    Attributes:
        samples: its position.
        fitted: whether its share fitted in memory.
        images: number of images of its share.
        stopping: whether it was asked to end.
    """

    samples: int
    fitted: bool
    images: int
    stopping: bool


class Trainer:
    """Trains one candidate; its position is the number of samples trained on.

    Attributes:
        samples: the position.
        losses: mean loss per target token of every step so far, in nats.
        findings: what was found in the samples up to the position.
        checked: number of samples that the findings cover.
    """

    def __init__(
        self,
        vlm: Vlm,
        *,
        settings: AlignmentSettings,
        data: AlignmentSet,
        seed: int,
        accelerator: Accelerator,
        device: torch.device,
        processes: Processes | None = None,
        cache: FeatureCache | None = None,
        threads: int = 2,
        lengths: Path | None = None,
        clock: Clock | None = None,
        stop: StopRequest | None = None,
    ) -> None:
        """Start at sample 0.

        Args:
            vlm: the candidate; its trainable parameters are changed in place.
            settings: alignment recipe.
            data: alignment set.
            seed: random seed of dropout.
            accelerator: Accelerate, with the ranks and trackers.
            device: torch device of the candidate.
            processes: ranks of the launch, which exchange failures; None for a single process.
            cache: cache of features; None computes them every time.
            threads: number of threads that decode images.
            lengths: folder of samples' numbers of tokens, see `Batches`; None keeps none.
            clock: counts where the time goes; None if nobody reads it.
            stop: whether this process was asked to end; None if nobody asks.

        Raises:
            TrainingError: if the number of ranks does not divide a global batch.
        """
        self.samples = self.checked = 0
        self._stop, self._stopping = stop or StopRequest(), False
        self.losses: list[float] = []
        self.findings = Findings(settings.skip_unusable, len(data))
        self._clock, self._work = clock or Clock(device), Work.per_token(vlm)
        self._vlm = vlm
        self._settings = settings
        self._full_samples = len(data)
        self._device = device
        self._accelerator = accelerator
        self._processes = processes or Processes()
        self._parameters = vlm.trainable()
        self._alone = first_stage(settings, len(data))
        # The groups of the projector and of LoRA, which may have learning rates of their own.
        self._groups = {
            of_lora: [p for n, p in self._parameters.items() if ("lora_" in n) == of_lora]
            for of_lora in (False, True)
        }
        self._optimizer = torch.optim.AdamW(
            [{"params": group} for group in self._groups.values()],
            lr=0.0,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self._average = self._new_average()
        self._pending: list[torch.Tensor] = []
        rank, self._world = self._share_of()
        self._conversations = Conversations(
            vlm, max_length=settings.max_length, too_long=settings.too_long
        )
        self._vision = VisionFeatures(
            vlm.encoder, data, share=settings.batch_size // self._world, device=device, cache=cache
        )
        self._batches = Batches(
            data,
            self._conversations,
            self._vision,
            batch_size=settings.batch_size,
            rank=rank,
            world=self._world,
            threads=threads,
            lengths=lengths,
        )
        self._share = ShareGradients(
            vlm,
            self._conversations,
            settings=settings,
            seed=seed,
            rank=rank,
            device=device,
            sharded=is_sharded(accelerator),
            clock=self._clock,
        )

    def run(
        self,
        until: int,
        advance: Advance,
        branch: Branch | None = None,
        guard: Guard | None = None,
    ) -> None:
        """Train up to a number of samples.

        Samples are checked before they are trained on, some 16,000 ahead: enough to find faulty
        data at once, and few enough that the device does not wait long for its first step. If a
        rank was asked to end, all stop after the present step, at a position below `until`.

        Args:
            until: number of samples to reach: whole batches, at most D.
            advance: function that receives the number of samples done since its last call.
            branch: cool-down that ends there; None trains on the trunk.
            guard: claim of rank 0, under which all ranks train; None without a claim, and on other
                ranks.

        Raises:
            LeaseLostError: if the claim is known to be lost, on all ranks.
            TrainingError: if the loss is not finite, memory runs out at one sample per rank, or
                `until` cannot be reached exactly.
            DataError: if a sample is refused, or more than `skip_unusable` cannot be trained on.
        """

        def work() -> None:
            # `raised_as` here, since other ranks are told what leaves the work.
            with raised_as(self._failed), self._clock.span("training"):
                self._run(until, advance, branch, guard)

        self._processes.run_on_all(work)

    def _run(
        self, until: int, advance: Advance, branch: Branch | None, guard: Guard | None
    ) -> None:
        batch_size = self._settings.batch_size
        if until % batch_size or not self.samples <= until <= self._full_samples:
            raise TrainingError(
                self.samples,
                f"asked for {until} samples; whole batches of {batch_size} from {self.samples} to "
                f"{self._full_samples} can be reached",
            )
        while self.samples < until and not self._stopping:
            batches = max(1, CHECKED_AHEAD // batch_size)
            end = min(until, self.samples + batches * batch_size)
            self._check_samples(end)
            self._vlm.model.train()
            self._vlm.model.model.vision_tower.eval()
            self._train(end, advance, branch, guard)

    def _check_samples(self, until: int) -> None:
        with self._clock.span("checking"), self._stop.immediate():
            found = self._batches.check(min(self.checked, self.samples), until)
        self.findings.add(self._processes.gather(found), until)
        self.checked = until

    def _train(
        self, until: int, advance: Advance, branch: Branch | None, guard: Guard | None
    ) -> None:
        """Train on samples that are checked."""
        batch_size = self._settings.batch_size
        shares = self._batches.shares(self.samples, until)
        while self.samples < until:
            self._step(shares, branch)
            self.samples += batch_size
            if branch is None and self._average:
                self._average.update(self._parameters, self.samples // batch_size)
            if len(self._pending) >= _CHECK_EVERY:
                self._check_losses()
                self._check_claim(guard)
            advance(batch_size)
            if self._stopping:
                break
        self._check_losses()

    def state(self) -> TrunkState:
        """Copy the state that training continues from to the CPU."""
        optimizer = {
            f"{name}/{key}": value.detach().cpu().clone()
            for name, parameter in self._parameters.items()
            for key, value in self._optimizer.state[parameter].items()
        }
        average = self._average.weights if self._average else None
        return TrunkState(
            self.samples, _copied(self._parameters), optimizer, average and _copied(average)
        )

    def restore(self, state: TrunkState) -> None:
        """Go to the position of a state.

        Args:
            state: state of the same candidate.

        Raises:
            TrainingError: if the state's parameters are not those of this candidate.
        """
        self.load_weights(state.weights, state.samples)
        self._optimizer.state.clear()
        for key, value in state.optimizer.items():
            name, part = key.rsplit("/", 1)
            self._optimizer.state[self._parameters[name]][part] = value.to(
                self._parameters[name].device, copy=True
            )
        self._average = self._new_average()
        if self._average and state.average is not None:
            for name, value in self._average.weights.items():
                value.copy_(state.average[name])
        self.samples = self.checked = state.samples

    def load_weights(self, weights: Mapping[str, torch.Tensor], samples: int) -> None:
        """Load weights; position, optimiser and average stay as they are.

        Args:
            weights: weights of all trained parameters, by name.
            samples: number of samples they were trained on, for the error.

        Raises:
            TrainingError: if their names are not those of this candidate's parameters.
        """
        if weights.keys() != self._parameters.keys():
            odd = sorted(weights.keys() ^ self._parameters.keys())
            raise TrainingError(
                samples,
                f"the checkpoint and the candidate differ in {len(odd)} parameters: {odd[0]}",
            )
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(weights[name])

    def _new_average(self) -> Average | None:
        if self._settings.schedule != "ema":
            return None
        return Average(self._settings.average_width, self._parameters)

    def _step(self, shares: Iterator[Share], branch: Branch | None) -> None:
        """One optimiser step."""
        seen = self.samples + self._settings.batch_size
        if self.samples == self._alone:
            self._optimizer.state.clear()  # the projector's stage has an optimiser of its own
        step = rates(self._settings, seen, self._full_samples, branch)
        for group, chosen in zip(
            self._optimizer.param_groups, (step.projector, step.lora), strict=True
        ):
            group["lr"] = chosen or 0.0
        loss, targets = self._global_gradients(shares)
        parameters = list(self._parameters.values())
        if step.lora is None:  # neither clipped nor counted by the optimiser
            parameters = self._groups[False]
            for parameter in self._groups[True]:
                parameter.grad = None
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.div_(targets)
        torch.nn.utils.clip_grad_norm_(parameters, self._settings.max_gradient_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._pending.append(loss / targets)

    def _global_gradients(self, shares: Iterator[Share]) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the gradients of the next global batch's summed loss, in place.

        A rank whose share did not fit in memory repeats it with smaller micro-batches.

        Returns:
            The summed loss and T.
        """
        with self._clock.queued("waiting"):
            share = next(shares)
        with self._clock.queued("encoding"):
            features = self._vision.compute(share.prepared)
        images = sum(sample.images for sample in share.encoded if sample.length)
        loss, fitted = self._gradients(share, features)
        while True:
            # Before the sum, in which a rank would wait for one that has failed or must repeat.
            reports = self._processes.gather(
                _Report(self.samples, fitted, images, self._stop.asked)
            )
            self._check_positions(reports)
            if all(report.fitted for report in reports):
                break
            if not fitted:
                loss, fitted = self._gradients(share, features)
        self._stopping = any(report.stopping for report in reports)
        self._share.fitted()
        self._clock.trained(share, self._work)
        numbers = torch.stack([loss, torch.tensor(share.targets, device=self._device)])
        loss, targets = sum_over_ranks(self._accelerator, list(self._parameters.values()), numbers)
        if not any(report.images for report in reports):
            # No sample of the batch has an image. As on a single process, the projector then has
            # no gradient, and AdamW skips it instead of applying its momentum.
            for name, parameter in self._parameters.items():
                if "multi_modal_projector" in name:
                    parameter.grad = None
        return loss, targets.clamp(min=1)  # all samples of the batch may be skipped

    def _check_positions(self, reports: Sequence[_Report]) -> None:
        """Refuse to sum gradients of ranks that stand at different samples."""
        positions = [report.samples for report in reports]
        if len(set(positions)) > 1:
            raise TrainingError(
                self.samples,
                f"the processes stand at different samples: {positions}; all must stand at the "
                "same one",
            )

    def _gradients(self, share: Share, features: list[torch.Tensor]) -> tuple[torch.Tensor, bool]:
        """Summed loss of this rank's share, gradients in place; whether memory sufficed."""
        return self._share.compute(share, features, self.samples)

    def _failed(self, reason: str) -> TrainingError:
        return TrainingError(self.samples, reason)

    def _check_losses(self) -> None:
        """Read the losses of past steps, log them, and raise if one is not finite."""
        if not self._pending:
            return
        losses = torch.stack(self._pending).tolist()
        first = self.samples - (len(losses) - 1) * self._settings.batch_size
        self._pending = []
        for number, loss in enumerate(losses):
            position = first + number * self._settings.batch_size
            if not math.isfinite(loss):
                raise TrainingError(
                    position,
                    f"the loss is {loss}; a lower learning_rate than "
                    f"{self._settings.learning_rate} or fp32 may help",
                )
            self._accelerator.log({"loss": loss}, step=position)
        self.losses += losses

    def _check_claim(self, guard: Guard | None) -> None:
        """Raise on all ranks, between two steps, if the claim is known to be lost."""
        failure = self._processes.broadcast(guard.failure if guard else None)
        if failure:
            raise failure

    def _share_of(self) -> tuple[int, int]:
        world = self._accelerator.num_processes
        if self._settings.batch_size % world:
            raise TrainingError(
                0,
                f"a global batch of {self._settings.batch_size} cannot be shared by {world} "
                "processes evenly; batch_size must be a multiple of their number",
            )
        return self._accelerator.process_index, world


def _copied(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}
