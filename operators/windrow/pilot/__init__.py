"""Which engine and which numerics: measured on a sample of the job's own texts, held against fp32, remembered."""

from windrow.pilot.choice import Ask, Choice, choose
from windrow.pilot.estimate import Estimate, estimate, hours_allowed, refuse_beyond
from windrow.pilot.timing import Timing, timed

__all__ = [
    "Ask",
    "Choice",
    "Estimate",
    "Timing",
    "choose",
    "estimate",
    "hours_allowed",
    "refuse_beyond",
    "timed",
]
