"""`python -m diagnostics`: this service alone."""

from common.runtime.host import main
from diagnostics.module import build

main(build, service="diagnostics")
