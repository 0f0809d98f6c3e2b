from cconv.schedules import Exponential
from train.cases.case import ScheduleCase

CASES = [
    ScheduleCase(Exponential(0.5, 0.9), {(0, None): 0.5, (1, None): 0.45, (2, 10): 0.405, (10, 10): 0.5 * 0.9**10}),
    ScheduleCase(Exponential(0.5, 0.0), {(0, None): 0.5, (1, None): 0.0}),
]
