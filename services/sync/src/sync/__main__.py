"""`python -m sync`: this service alone."""

from common.runtime.host import main
from sync.module import build

main(build, service="sync")
