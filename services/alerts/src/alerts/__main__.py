"""`python -m alerts`: this service alone."""

from alerts.module import build
from common.runtime.host import main

main(build, service="alerts")
