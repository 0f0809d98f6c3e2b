"""Training: a model, a loss and an optimizer made into plans that run a whole step without the GIL.

    trainer.py ── step, fit, evaluate, save
      ├── selection.py    which weights are trained, what each BatchNormalization does
      ├── losses_by_output.py, losses/    what a target must be; the loss's steps
      ├── optim/          the update's steps, and the state that outlives plans
      │     └── schedules/    the learning rate of a step
      ├── network.py      a plan for each set of shapes, the last few kept
      │     └── batch.py, arrays.py    the caller's x and y, checked and converted, or refused
      ├── fit.py          the epoch loop
      │     ├── dataset.py    where examples come from, in which order, changed how
      │     ├── frozen.py     what is kept of the layers that are not trained
      │     └── callbacks/, progress.py, history.py    what is called, shown and recorded
      ├── evaluate.py     the model as it is used, over a dataset
      │     └── metrics/, evaluation.py    what is measured, and the means
      ├── checkpoint.py   all of it in one file
      ├── advice.py       what a Trainer warns of when it is made
      └── registry.py     losses, optimizers, schedules, metrics, callbacks by name

Everything a plan cannot check for itself is checked here, before a step runs. A step that fails leaves
weights, optimizer state and running statistics as they were.
"""
