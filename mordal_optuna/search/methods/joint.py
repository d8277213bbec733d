"""The method `joint`: one model of all scores chooses what to train, in rounds.

Symbols:
    D   samples of a full alignment
    k   pairs of the start with each model of the larger side
    q   jobs of a round
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mordal_optuna.search.jobs import Finished, Job, usable
from mordal_optuna.search.joint.board import Move, Situation, Target
from mordal_optuna.search.joint.choice import Choice, KnowledgeGradient
from mordal_optuna.search.joint.design import balanced_start, completed_start
from mordal_optuna.search.joint.effects import PRIOR, Hyperprior
from mordal_optuna.search.joint.job_costs import JobCosts
from mordal_optuna.search.joint.multitask import sharing
from mordal_optuna.search.joint.posterior import JointModel
from mordal_optuna.search.joint.rules import Rounds, Start, Stop
from mordal_optuna.search.methods.rounds import (
    carried_scores,
    is_complete,
    jobs_of_moves,
    lost,
    scores_of_moves,
)
from mordal_optuna.search.plan import PooledPlan
from mordal_optuna.search.ranking import Ranker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.budget import Budget
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.history import History
    from mordal_optuna.search.joint.posterior import PoolModel
    from mordal_optuna.search.methods.options import PlanInputs
    from mordal_optuna.search.methods.rounds import Scored

# Documents behind a score if no score says how many.
_DOCUMENTS = 300

# Scores of a pair by task, in the order in which they were asked for.
Rows: TypeAlias = "dict[str, list[Measurement]]"


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
        tasks=inputs.tasks,
        # Other rankers know only scores of all tasks.
        partly=options.score_tasks == "useful" and inputs.ranks_jointly,
    )


@dataclass(frozen=True)
class _Walk:
    """The rounds of a search so far.

    Attributes:
        moves: moves of the rounds that are not complete.
        end: reason why no further round follows; None if one may.
        begun: whether the start is complete.
        rounds: number of rounds so far; the start is the first.
    """

    moves: tuple[Move, ...]
    end: str | None
    begun: bool
    rounds: int = 1


@dataclass(frozen=True)
class _Decision:
    """A decision about a round, and what it was made from.

    Attributes:
        scores: scores that were carried over, and those of the newest round that the decision
            depends on.
        lost: candidates of that round that could not be trained.
        moves: the moves of the round; empty at the end.
        end: reason of the end; None if there are moves.
        models: the tasks' own models that the decision was made with.
    """

    scores: tuple[Scored, ...]
    lost: frozenset[Candidate]
    moves: tuple[Move, ...]
    end: str | None
    models: Mapping[str, JointModel] = field(default_factory=dict, compare=False)


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
        tasks: Mapping[str, float] | None = None,
        partly: bool = False,
    ) -> None:
        """Create a plan.

        Args:
            tree: the pool, with its similarities if its models were compared.
            rungs: strictly ascending sample counts; the last is D.
            full_samples: D.
            ranker: computes the estimates; by default a `Ranker`.
            start: the start; by default two pairs a model.
            rounds: size of the rounds; by default 4 jobs.
            stop: when the answer is good enough; by default at an expected regret of .005.
            budget: limit of device time; by default none.
            choice: rule that chooses the jobs of a round; by default `KnowledgeGradient`.
            prior: priors of the model's hyperparameters.
            tasks: weights of the tasks by name; by default the search is for one task.
            partly: whether a rung may be scored on some of several tasks, those that are worth
                their cost; otherwise it is scored on all.

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
        self._tasks = dict(tasks or {})
        self._names = tuple(self._tasks) or ("",)
        self._partly = partly and len(self._names) > 1
        # Decisions about the rounds so far: a cache and no state, since each is compared with the
        # scores it was made from before it is used again.
        self._decisions: tuple[_Decision, ...] = ()

    def _first_rungs(self) -> tuple[int, ...]:
        """The rung of the start and the next one, to which an untrained pair may go at once."""
        ratio = self._start.ratio_for(len(self.vision_encoders), len(self.llms))
        wanted = ratio * self._rungs[-1]
        nearest = min(range(len(self._rungs)), key=lambda n: abs(self._rungs[n] - wanted))
        return self._rungs[nearest : nearest + 2]

    def __getstate__(self) -> dict[str, Any]:
        """A copy has no cache."""
        return {**vars(self), "_decisions": ()}

    @property
    def tasks(self) -> Mapping[str, float]:
        """Weight of each task by its name; empty if there is one task."""
        return self._tasks

    def jobs(self, history: History) -> Sequence[Job] | Finished:
        """The wanted jobs, most wanted first, including those that run; `Finished` at the end."""
        walk = self._walk(history)
        if not walk.begun and (over := self._budget.over(history)):
            return over
        tied = walk.begun or self._unlimited
        jobs = list(jobs_of_moves(walk.moves, history, self._names, tied=tied))
        if jobs or walk.end is None:
            return jobs
        scored = any(record.rungs for record in history.candidates.values())
        return self._answer_jobs(history) or Finished(walk.end, failed=not scored)

    def _answer_jobs(self, history: History) -> list[Job]:
        """The tasks that the leader lacks at its highest rung: the answer is scored on all."""
        if not self._partly:
            return []
        for estimate in self.ranking(history):
            record = history.of(estimate.candidate)
            if record.rungs and usable(record):
                at = (Move(estimate.candidate, (record.top,)),)
                jobs = jobs_of_moves(at, history, self._names)
                return [replace(job, stage="answer") for job in jobs]
        return []

    def search_jobs(self, history: History) -> Sequence[Job]:
        """The wanted jobs; the method has no finish of its own."""
        return list(jobs_of_moves(self._walk(history).moves, history, self._names))

    def has_room(self, history: History, besides: Candidate | None = None) -> bool:
        """Whether the budget has room for another job.

        The start is needed in any case, so its jobs do not wait for the first known cost. Rounds
        after it are chosen to fit into the budget.
        """
        if not any(record.rungs for record in history.candidates.values()):
            return self._budget.over(history) is None
        return self._walk(history).begun or super().has_room(history, besides)

    def is_settled(self, history: History, candidate: Candidate) -> bool:
        """Whether the candidate is scored above 1/16 of D."""
        return history.of(candidate).top * 16 > self._rungs[-1]

    def winner(self, history: History) -> Candidate | None:
        """The pair with the best estimate among those with a score; None before any score.

        Of several tasks, a score on all of them counts.
        """
        scored = {c for c, record in history.candidates.items() if record.measurements}
        if not scored:
            return None
        return next(e.candidate for e in self.ranking(history) if e.candidate in scored)

    def _walk(self, history: History) -> _Walk:
        """Follow the rounds from the start up to those that wait for scores."""
        names = self._names
        carried = carried_scores(history, names)
        rounds = [tuple(Move(c, self._first[:1]) for c in self._start_pairs(carried))]
        if not is_complete(rounds[0], history, names):
            return _Walk(rounds[0], None, begun=False)
        earlier, decisions = self._decisions, list[_Decision]()
        while True:
            newest = max(0, len(rounds) - 1 - self._rounds.lag)
            if not is_complete(rounds[newest], history, names):
                end = None
                break
            scores = (*carried, *scores_of_moves(rounds[newest], history, names))
            gone = lost(rounds[newest], history, names)
            known = earlier[len(decisions)] if len(decisions) < len(earlier) else None
            if known is None or (known.scores, known.lost) != (scores, gone):
                earlier = ()
                known = self._decide(rounds, newest, history, carried, decisions)
            decisions.append(known)
            end = known.end
            if end:
                break
            rounds.append(known.moves)
        # Models are kept for the last decision alone: each has a large matrix.
        self._decisions = (*(replace(d, models={}) for d in decisions[:-1]), *decisions[-1:])
        moves = tuple(m for ms in rounds for m in ms if not is_complete((m,), history, names))
        return _Walk(moves, end, begun=True, rounds=len(rounds))

    def rounds(self, history: History) -> int:
        """Number of rounds that have begun; the start is the first."""
        return self._walk(history).rounds

    def _start_pairs(self, carried: Sequence[Scored]) -> tuple[Candidate, ...]:
        """The pairs of the start, without those that were carried over at its rung or above."""
        held = {candidate for candidate, _, m in carried if m.samples >= self._first[0]}
        sides, start = (self._tree.vision_encoders, self._tree.llms), self._start
        if held:
            return completed_start(*sides, start.pairs, held, seed=start.seed)
        return balanced_start(*sides, start.pairs, seed=start.seed)

    def _decide(
        self,
        rounds: Sequence[tuple[Move, ...]],
        newest: int,
        history: History,
        carried: Sequence[Scored],
        decisions: Sequence[_Decision],
    ) -> _Decision:
        """The next round, or the reason why there is none.

        Args:
            rounds: all rounds before it.
            newest: index of the last round whose scores it may depend on.
            history: history of the study.
            carried: scores that were carried over from an earlier study.
            decisions: the decisions about the earlier rounds.
        """
        seen, late, names = rounds[: newest + 1], rounds[newest + 1 :], self._names
        scores = [
            *carried,
            *(row for moves in seen for row in scores_of_moves(moves, history, names)),
        ]
        gone = frozenset(c for moves in seen for c in lost(moves, history, names))
        end, models, moves = "no candidate could be trained", {}, list[Move]()
        shared: Mapping[str, PoolModel] = {}
        if scores:
            models = self._models(scores, decisions[-1].models if decisions else {})
            shared = sharing(models)
            end = self._good_enough(shared)
        if scores and not end:
            situation = self._situation(shared, scores, late, gone, carried)
            moves = self._choice(situation, self._rounds.size)
            if not moves and situation.left is not None:
                end = f"budget spent: {self._budget.device_hours:g} device-hours"
            elif not moves:
                end = "pool exhausted: every pair is fully trained"
        return _Decision(
            (*carried, *scores_of_moves(rounds[newest], history, names)),
            lost(rounds[newest], history, names),
            tuple(moves),
            end or None,
            models,
        )

    def _models(
        self, scores: Sequence[Scored], before: Mapping[str, JointModel]
    ) -> dict[str, JointModel]:
        """The model of each task's own scores, in the order of the rounds.

        Args:
            scores: all scores that the next round may depend on.
            before: the models of an earlier round, which the new ones may extend.
        """
        return {
            name: JointModel.following(
                before.get(name),
                [(c, m) for c, task, m in scores if task == name],
                self._tree.candidates,
                self._rungs[-1],
                similarities=self._tree.similarities,
                prior=self._prior,
            )
            for name in self._names
        }

    def _situation(
        self,
        models: Mapping[str, PoolModel],
        scores: Sequence[Scored],
        late: Sequence[tuple[Move, ...]],
        gone: frozenset[Candidate],
        carried: Sequence[Scored],
    ) -> Situation:
        known, before = _by_pair(scores), _by_pair(carried)
        tops = {c: max(m.samples for m in _all(rows)) for c, rows in known.items()}
        by_rung = {name: _documents(scores, name) for name in self._names}
        documents = {n: max(found.values(), default=_DOCUMENTS) for n, found in by_rung.items()}
        costs = JobCosts.learned(known, self._rungs[-1], documents)
        spent = self._budget.spent_seconds
        spent += sum(_seconds(rows, before.get(c, {})) for c, rows in known.items())
        pending: dict[str, list[tuple[Candidate, int]]] = {name: [] for name in self._names}
        for move in (move for moves in late for move in moves):
            top = tops.get(move.candidate, 0)
            tops[move.candidate] = max(top, move.rungs[-1])
            spent += costs.train(move.candidate, tops[move.candidate] - top)
            for rung, asked in move.steps(self._names):
                for name in asked:
                    spent += costs.evaluate(move.candidate, name)
                    pending[name].append((move.candidate, rung))
        if self._partly:  # what the answer may cost in the end
            spent += max(sum(costs.evaluate(c, n) for n in self._names) for c in known)
        hours = self._budget.device_hours
        return Situation(
            targets=tuple(
                Target(
                    model,
                    documents[name],
                    name,
                    pending[name],
                    frozenset(
                        (
                            *((c, m.samples) for c, task, m in scores if task == name),
                            *pending[name],
                        )
                    ),
                    self._tasks.get(name, 1.0),
                    by_rung[name],
                )
                for name, model in models.items()
            ),
            tops=tops,
            excluded=gone,
            rungs=self._rungs,
            first=self._first,
            costs=costs,
            left=None if hours is None else hours * 3600 - spent,
            partly=self._partly,
        )

    def _good_enough(self, models: Mapping[str, PoolModel]) -> str:
        """Why the present answer is good enough; empty if it is not.

        With several tasks: the weighted mean of the expected regrets of each task's leader, and
        the lowest of their probabilities of being best.
        """
        if self._stop.expected_regret is None and self._stop.probability is None:
            return ""
        regrets, chances, weights = [], [], []
        for name, model in models.items():
            posterior = model.posterior
            leader = int(posterior.mean.argmin())
            regrets.append(posterior.expected_regret(leader))
            chances.append(float(posterior.best[leader]))
            weights.append(self._tasks.get(name, 1.0))
        regret, chance = float(np.average(regrets, weights=weights)), min(chances)
        if self._stop.expected_regret is not None and regret <= self._stop.expected_regret:
            return f"answer found: the winner's expected regret is {100 * regret:.2f} points"
        if self._stop.probability is not None and chance >= self._stop.probability:
            return f"answer found: the winner is the best pair with probability {chance:.2f}"
        return ""


def _seconds(by_task: Rows, carried: Rows) -> float:
    """Device-seconds of a candidate's scores beyond those that were carried over.

    As if none of the others had been reused.
    """
    rows, known = _all(by_task), _all(carried)
    before = max((m.train_seconds for m in known), default=0.0)
    training = max((m.train_seconds for m in rows), default=0.0) - before
    evaluation = sum(m.eval_seconds for m in rows) - sum(m.eval_seconds for m in known)
    return max(training, 0.0) + max(evaluation, 0.0)


def _all(by_task: Rows) -> list[Measurement]:
    return [m for own in by_task.values() for m in own]


def _by_pair(scores: Sequence[Scored]) -> dict[Candidate, Rows]:
    found: dict[Candidate, Rows] = {}
    for candidate, task, measurement in scores:
        found.setdefault(candidate, {}).setdefault(task, []).append(measurement)
    return found


def _documents(scores: Sequence[Scored], task: str) -> dict[int, int]:
    """Largest number of documents behind the scores on a task, by rung."""
    found: dict[int, int] = {}
    for _, name, m in scores:
        if name == task and m.documents:
            found[m.samples] = max(found.get(m.samples, 0), m.documents)
    return found
