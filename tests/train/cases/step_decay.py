from cconv.schedules import StepDecay
from train.cases.case import ScheduleCase

CASES = [ScheduleCase(StepDecay(1.0, every=2, gamma=0.5), {(i, None): 0.5 ** (i // 2) for i in range(8)})]
