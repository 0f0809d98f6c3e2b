"""Updates of an optimizer beside those of torch.optim."""

import numpy as np
import pytest

from cconv.train.trainer import Trainer
from networks import examples, perceptron


def assert_updates_equal_torch(optimizer, make, steps):
    """Train a small network for some steps. PyTorch gets the trainer's gradients, so that errors do not add up.

    Args:
        make: (torch.optim, tensors of the weights by name) -> an optimizer of torch.optim.
    """
    torch = pytest.importorskip("torch")
    model = perceptron()
    trainer = Trainer(model, optimizer=optimizer)
    theirs = {name: torch.tensor(array.copy(), requires_grad=True) for name, array in model.weights.items()}
    reference = make(torch.optim, theirs)
    for i in range(steps):
        x, y = (array[3 * i : 3 * i + 7] for array in examples())
        _, gradients = trainer.gradients(x, y)
        for name, gradient in gradients.items():
            theirs[name].grad = torch.tensor(gradient)
        reference.step()
        trainer.step(x, y)
    for name, array in model.weights.items():
        expected = theirs[name].detach().numpy()
        # Adam and its kin divide by the gradient's own size, so roundings of small gradients weigh more.
        assert np.max(np.abs(array - expected)) <= 1e-5 * np.max(np.abs(expected)), name
