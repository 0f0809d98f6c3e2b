from cconv.schedules import Constant
from train.cases.case import ScheduleCase

CASES = [ScheduleCase(Constant(0.5), {(0, None): 0.5, (100, None): 0.5, (7, 10): 0.5})]
