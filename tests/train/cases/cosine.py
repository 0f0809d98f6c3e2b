from cconv.schedules import Cosine
from train.cases.case import ScheduleCase

CASES = [
    ScheduleCase(Cosine(1.0), {(0, 10): 1.0, (5, 10): 0.5, (10, 10): 0.0, (12, 10): 0.0}),
    ScheduleCase(
        Cosine(1.0, steps=14, warmup=4, final=0.2),
        {
            (0, None): 0.25,
            (1, None): 0.5,
            (3, None): 1.0,
            (4, None): 1.0,
            (9, None): 0.6,
            (14, None): 0.2,
            (99, 5): 0.2,
        },
    ),
]
