"""Training: a model, a loss and an optimizer made into plans that run a whole step without the GIL.

    Trainer ──┬── selection    which weights are trained, which BatchNormalization does what
              ├── arrays       the caller's x and y: checked, converted, or refused by name
              ├── losses       what a target must be; the loss's steps
              ├── optim        the update's steps, and the state that outlives plans
              │     └── schedules    learning rate of a step
              ├── plans        a plan for each set of shapes, the last few kept
              ├── evaluation   loss and accuracy of the model as it is used
              ├── batches, history, callbacks    what `fit` goes through, keeps and calls
              │     └── frozen       what it keeps of the layers that are not trained
              └── checkpoint   all of it in one file

Everything a plan cannot check for itself is checked here, before a step runs. A step that fails leaves
weights, optimizer state and running statistics as they were.
"""
