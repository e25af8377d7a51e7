"""`python -m alerts`: this service alone."""

from common.runtime.host import main
from alerts.module import build

main(build, service="alerts")
