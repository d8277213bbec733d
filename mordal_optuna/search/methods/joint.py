"""The method `joint`: one model of all scores chooses what to train, in rounds.

Symbols:
    D   samples of a full alignment
    k   pairs of the start with each model of the larger side
    q   jobs of a round
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mordal_optuna.search.bounds import require
from mordal_optuna.search.jobs import Finished, Job
from mordal_optuna.search.joint.choice import Choice, KnowledgeGradient, Move, Situation
from mordal_optuna.search.joint.design import balanced_start, completed_start
from mordal_optuna.search.joint.effects import PRIOR, Hyperprior
from mordal_optuna.search.joint.job_costs import JobCosts
from mordal_optuna.search.joint.posterior import JointModel
from mordal_optuna.search.plan import PooledPlan, usable
from mordal_optuna.search.ranking import Ranker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.budget import Budget
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.history import History
    from mordal_optuna.search.methods.options import PlanInputs

# Rounds that are cached: a search asks for the same rounds again at every step.
_CACHED = 512
# Documents behind a score if no score says how many.
_DOCUMENTS = 300

Known = tuple[tuple["Candidate", tuple["Measurement", ...]], ...]


def build(inputs: PlanInputs) -> JointPlan:
    """The plan of `joint`."""
    options = inputs.options
    return JointPlan(
        inputs.tree,
        inputs.rungs,
        inputs.full_samples,
        inputs.ranker(),
        start=Start(options.start_pairs, options.start_ratio, inputs.seed),
        rounds=Rounds(options.round_size, options.round_lag),
        stop=Stop(options.stop.expected_regret, options.stop.probability),
        budget=inputs.budget,
    )


@dataclass(frozen=True)
class Start:
    """The start of a search.

    Attributes:
        pairs: k, at least 1.
        ratio: share of D that the pairs are trained on, above 0 and at most 1.
        seed: random seed of the design.
    """

    pairs: int = 2
    ratio: float = 0.125
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            SearchError: if a value is out of its range.
        """
        require(self.pairs >= 1, "start_pairs", self.pairs, "at least 1")
        require(0 < self.ratio <= 1, "start_ratio", self.ratio, "above 0 and at most 1")


@dataclass(frozen=True)
class Rounds:
    """Size of the rounds after the start.

    Attributes:
        size: q, at least 1.
        lag: number of earlier rounds, beside those that end last, whose scores a round does not
            wait for; 0 waits for all earlier scores.
    """

    size: int = 4
    lag: int = 1

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            SearchError: if a value is out of its range.
        """
        require(self.size >= 1, "round_size", self.size, "at least 1")
        require(self.lag >= 0, "round_lag", self.lag, "at least 0")


@dataclass(frozen=True)
class Stop:
    """When the answer is good enough.

    Attributes:
        expected_regret: the search ends once the expected score of the best pair exceeds that of
            the leader by at most this, 0 to 1; None never ends it.
        probability: the search ends once the leader is the best pair with at least this
            probability, 0 to 1; None never ends it.
    """

    expected_regret: float | None = 0.005
    probability: float | None = None

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            SearchError: if a value is out of its range.
        """
        for name, value in (
            ("expected_regret", self.expected_regret),
            ("probability", self.probability),
        ):
            require(value is None or 0 <= value <= 1, f"stop: {name}", value, "from 0 to 1")


@dataclass(frozen=True)
class _Walk:
    """The rounds of a search so far.

    Attributes:
        moves: moves of the rounds that are not complete.
        end: reason why no further round follows; None if one may.
        begun: whether the start is complete.
    """

    moves: tuple[Move, ...]
    end: str | None
    begun: bool


class JointPlan(PooledPlan):
    """A balanced start, then rounds of jobs that the joint model chooses.

    A round is a function of the scores of earlier rounds alone, whatever the order in which they
    arrived, so that any number of workers runs the same search. Scores that were carried over from
    an earlier study are known from the beginning: the start adds the pairs that are missing, and
    rounds go on from their rungs. Other scores that no round asked for (enqueued trials) count in
    the ranking and not in the choice.
    """

    def __init__(
        self,
        tree: ClusterTree,
        rungs: Sequence[int],
        full_samples: int,
        ranker: Ranker | None = None,
        *,
        start: Start | None = None,
        rounds: Rounds | None = None,
        stop: Stop | None = None,
        budget: Budget | None = None,
        choice: Choice | None = None,
        prior: Hyperprior = PRIOR,
    ) -> None:
        """Create a plan.

        Args:
            tree: the pool, with its similarities if its models were compared.
            rungs: strictly ascending sample counts; the last is D.
            full_samples: D.
            ranker: computes the estimates; by default a `Ranker`.
            start: the start; by default two pairs a model at 1/8 of D.
            rounds: size of the rounds; by default 4 jobs.
            stop: when the answer is good enough; by default at an expected regret of .005.
            budget: limit of device time; by default none.
            choice: rule that chooses the jobs of a round; by default `KnowledgeGradient`.
            prior: priors of the model's hyperparameters.

        Raises:
            SearchError: if the rungs do not ascend or exceed D.
        """
        ranker = ranker or Ranker(tree, full_samples)
        super().__init__(tree, rungs, full_samples, ranker, budget=budget)
        self._start = start or Start()
        self._rounds = rounds or Rounds()
        self._stop = stop or Stop()
        self._choice = choice or KnowledgeGradient()
        self._prior = prior
        self._first = self._first_rungs()
        self._create_cache()

    def _first_rungs(self) -> tuple[int, ...]:
        """The rung of the start and the next one, to which an untrained pair may go at once."""
        wanted = self._start.ratio * self._rungs[-1]
        nearest = min(range(len(self._rungs)), key=lambda n: abs(self._rungs[n] - wanted))
        return self._rungs[nearest : nearest + 2]

    def _create_cache(self) -> None:
        # A cache and no state: a round is a function of the scores that it is chosen from.
        self._choose = lru_cache(maxsize=_CACHED)(self._chosen)

    def __getstate__(self) -> dict[str, Any]:
        # The cache cannot be pickled and must not be shared: a copy creates one of its own.
        return {name: value for name, value in vars(self).items() if name != "_choose"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._create_cache()

    def jobs(self, history: History) -> Sequence[Job] | Finished:
        """The wanted jobs, most wanted first, including those that run; `Finished` at the end."""
        walk = self._walk(history)
        if not walk.begun and (over := self._budget.over(history)):
            return over
        jobs = list(_jobs(walk.moves, history))
        if jobs or walk.end is None:
            return jobs
        scored = any(record.measurements for record in history.candidates.values())
        return Finished(walk.end, failed=not scored)

    def search_jobs(self, history: History) -> Sequence[Job]:
        """The wanted jobs; the method has no finish of its own."""
        return list(_jobs(self._walk(history).moves, history))

    def has_room(self, history: History, besides: Candidate | None = None) -> bool:
        """Whether the budget has room for another job.

        Rounds after the start are chosen to fit into the budget.
        """
        return self._walk(history).begun or super().has_room(history, besides)

    def is_settled(self, history: History, candidate: Candidate) -> bool:
        """Whether the candidate is scored above 1/16 of D."""
        return history.of(candidate).top * 16 > self._rungs[-1]

    def winner(self, history: History) -> Candidate | None:
        """The pair with the best estimate among those with a score; None before any score."""
        scored = {c for c, record in history.candidates.items() if record.measurements}
        if not scored:
            return None
        return next(e.candidate for e in self.ranking(history) if e.candidate in scored)

    def _walk(self, history: History) -> _Walk:
        """Follow the rounds from the start up to those that wait for scores."""
        start = [Move(c, self._first[:1]) for c in self._start_pairs(history)]
        rounds = [tuple(start)]
        complete = _complete(rounds[0], history)
        if not complete:
            return _Walk(rounds[0], None, begun=False)
        while True:
            seen = rounds[: max(1, len(rounds) - self._rounds.lag)]
            if not all(_complete(moves, history) for moves in seen):
                return _Walk(_open(rounds, history), None, begun=True)
            late = rounds[len(seen) :]
            known, spent = _known(seen, history), _spent(seen, history)
            chosen, end = self._choose(known, tuple(late), _lost(seen, history), spent)
            if end:
                return _Walk(_open(rounds, history), end, begun=True)
            rounds.append(chosen)

    def _start_pairs(self, history: History) -> tuple[Candidate, ...]:
        """The pairs of the start, without those that were carried over at its rung or above."""
        held = {
            candidate
            for candidate, record in history.candidates.items()
            if record.carried and max(record.carried) >= self._first[0]
        }
        sides, start = (self._tree.vision_encoders, self._tree.llms), self._start
        if held:
            return completed_start(*sides, start.pairs, held, seed=start.seed)
        return balanced_start(*sides, start.pairs, seed=start.seed)

    def _chosen(
        self,
        known: Known,
        late: tuple[tuple[Move, ...], ...],
        lost: frozenset[Candidate],
        spent: float,
    ) -> tuple[tuple[Move, ...], str | None]:
        """The next round, or the reason why there is none.

        Args:
            known: scores of the rounds that the new one may depend on, by candidate.
            late: later rounds, whose scores it does not wait for.
            lost: candidates that could not be trained in the rounds of `known`.
            spent: device-seconds of the scores that those rounds asked for.
        """
        scores = [(c, m) for c, rows in known for m in rows]
        if not scores:
            return (), "no candidate could be trained"
        model = JointModel(
            scores,
            self._tree.candidates,
            self._rungs[-1],
            similarities=self._tree.similarities,
            prior=self._prior,
        )
        reason = self._good_enough(model)
        if reason:
            return (), reason
        situation = self._situation(model, dict(known), late, lost, spent)
        moves = self._choice(situation, self._rounds.size)
        if moves:
            return tuple(moves), None
        if self._budget.device_hours is not None and situation.left is not None:
            return (), f"budget spent: {self._budget.device_hours:g} device-hours"
        return (), "pool exhausted: every pair is fully trained"

    def _situation(
        self,
        model: JointModel,
        known: dict[Candidate, tuple[Measurement, ...]],
        late: tuple[tuple[Move, ...], ...],
        lost: frozenset[Candidate],
        spent: float,
    ) -> Situation:
        tops = {c: rows[-1].samples for c, rows in known.items() if rows}
        costs = JobCosts.learned(known, self._rungs[-1])
        pending = []
        for move in (move for moves in late for move in moves):
            step = move.rungs[-1] - tops.get(move.candidate, 0)
            spent += costs.train(move.candidate, step)
            spent += costs.evaluate(move.candidate) * len(move.rungs)
            tops[move.candidate] = move.rungs[-1]
            pending += [(move.candidate, rung) for rung in move.rungs]
        documents = [m.documents for rows in known.values() for m in rows if m.documents]
        hours = self._budget.device_hours
        total = None if hours is None else hours * 3600
        before = self._budget.spent_seconds
        return Situation(
            model=model,
            tops=tops,
            pending=pending,
            excluded=lost,
            rungs=self._rungs,
            first=self._first,
            costs=costs,
            documents=max(documents, default=_DOCUMENTS),
            left=None if total is None else total - before - spent,
        )

    def _good_enough(self, model: JointModel) -> str | None:
        """Why the present answer is good enough; None if it is not."""
        if self._stop.expected_regret is None and self._stop.probability is None:
            return None
        posterior = model.posterior
        leader = int(posterior.mean.argmin())
        regret = posterior.expected_regret(leader)
        if self._stop.expected_regret is not None and regret <= self._stop.expected_regret:
            return f"answer found: the winner's expected regret is {100 * regret:.2f} points"
        chance = float(posterior.best[leader])
        if self._stop.probability is not None and chance >= self._stop.probability:
            return f"answer found: the winner is the best pair with probability {chance:.2f}"
        return None


def _jobs(moves: Sequence[Move], history: History) -> Iterator[Job]:
    """The rungs of moves that have no score yet."""
    for move in moves:
        record = history.of(move.candidate)
        if usable(record):
            yield from (
                Job(move.candidate, rung, "joint") for rung in move.rungs if not record.at(rung)
            )


def _complete(moves: Sequence[Move], history: History) -> bool:
    """Whether nothing of a round is left to do."""
    return next(_jobs(moves, history), None) is None


def _open(rounds: Sequence[Sequence[Move]], history: History) -> tuple[Move, ...]:
    return tuple(m for moves in rounds for m in moves if not _complete((m,), history))


def _asked(rounds: Sequence[Sequence[Move]]) -> dict[Candidate, set[int]]:
    """The rungs that rounds asked for, by candidate."""
    asked: dict[Candidate, set[int]] = {}
    for move in (move for moves in rounds for move in moves):
        asked.setdefault(move.candidate, set()).update(move.rungs)
    return asked


def _known(rounds: Sequence[Sequence[Move]], history: History) -> Known:
    """The scores that rounds asked for or that were carried over, by candidates' names."""
    asked = _asked(rounds)
    carried = {c for c, record in history.candidates.items() if record.carried}
    return tuple(
        (c, _rows(history, c, asked.get(c, set()) | history.of(c).carried))
        for c in sorted(asked.keys() | carried)
    )


def _rows(history: History, candidate: Candidate, rungs: set[int]) -> tuple[Measurement, ...]:
    return tuple(m for m in history.of(candidate).measurements if m.samples in rungs)


def _spent(rounds: Sequence[Sequence[Move]], history: History) -> float:
    """Device-seconds of the scores that rounds asked for, as if none of them had been reused.

    What was carried over was paid for by another study.
    """
    asked = _asked(rounds)
    return sum(
        _seconds(_rows(history, c, asked[c] | history.of(c).carried), history.of(c).carried)
        for c in sorted(asked)
    )


def _lost(rounds: Sequence[Sequence[Move]], history: History) -> frozenset[Candidate]:
    """Candidates that rounds asked for and that could not be trained."""
    return frozenset(
        move.candidate
        for moves in rounds
        for move in moves
        if not all(history.of(move.candidate).at(rung) for rung in move.rungs)
    )


def _seconds(rows: Sequence[Measurement], carried: frozenset[int]) -> float:
    """Device-seconds of a candidate's scores beyond those that were carried over."""
    new = [m for m in rows if m.samples not in carried]
    if not new:
        return 0.0
    before = max((m.train_seconds for m in rows if m.samples in carried), default=0.0)
    return max(rows[-1].train_seconds - before, 0.0) + sum(m.eval_seconds for m in new)
