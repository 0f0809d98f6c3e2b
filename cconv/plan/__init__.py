"""Plans: a graph lowered to an array of steps with memory laid out ahead.

session.py    Model.run: one inference plan per input shape
    |
plan.py       inference_plan, training_plan: the phases of a program       split.py    what is frozen, and the rest
    |             |            |
plan_builder.py   gradient.py   fuse.py    PlanBuilder: tensors and steps; the backward walk; chains that run as one
    |
arena.py      where each buffer lies
"""
