"""`python -m simulator`: this service alone."""

from common.runtime.host import main
from simulator.module import build

main(build, service="simulator")
