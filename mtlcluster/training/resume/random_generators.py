"""The random generators of a run, on all its ranks, as its checkpoints keep them."""

import torch

from mtlcluster.training.distributed import Ranks
from mtlcluster.training.resume.checkpoint import State
from mtlcluster.training.resume.own_generators import Generator, generator_states, set_generator_states
from mtlcluster.training.seeding import mix_seed, random_state, seed_everything, set_random_state


class RandomGenerators:
    """Three kinds of generators: those that everybody shares (Python, numpy, torch), the one of the methods, and those
    that the job's objects own. The methods draw the same numbers on every rank, the others do not.
    """

    def __init__(self, seed: int, of_methods: torch.Generator, owned: list[Generator], ranks: Ranks) -> None:
        """
        Args:
            seed: The run's seed.
            of_methods: The generator of the methods.
            owned: The generators that the job's objects own.
            ranks: The processes that train the run.
        """
        self.seed, self.of_methods, self.owned, self.ranks = seed, of_methods, owned, ranks

    def state_dict(self) -> State:
        return {
            "random": self.ranks.all_of(random_state()),
            "generator": self.of_methods.get_state(),
            "own_generators": self.ranks.all_of(generator_states(self.owned)),
        }

    def restore(self, state: State, step: int) -> list[str]:
        """Puts the generators into their states of step `step`.

        With another number of ranks than before, all but the methods' generator are seeded anew.

        Returns:
            A note for the user if that was so, else none.
        """
        self.of_methods.set_state(state["generator"])
        before, rank = len(state["random"]), self.ranks.rank
        if before == self.ranks.size:
            set_random_state(state["random"][rank])
            if owned := state.get("own_generators"):  # older checkpoints lack them
                set_generator_states(self.owned, owned[rank])
            return []
        seed_everything(mix_seed("rank", self.seed, rank, step))
        return [
            f"step {step}: {before} ranks before, {self.ranks.size} from here on: dropout and augmentation draw other "
            "numbers, batch norm sees other parts of a batch; batches and learning rate stay"
        ]
