"""`python -m simulator`: this service alone; `python -m simulator capture FILE…`: the shape of HL7 files."""

import sys

from common.runtime.host import main
from simulator.adapters.capture_files import run
from simulator.module import build

if sys.argv[1:2] == ["capture"]:
    raise SystemExit(run(sys.argv[2:]))
main(build, service="simulator")
