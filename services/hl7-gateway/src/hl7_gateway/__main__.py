"""`python -m hl7_gateway`: this service alone."""

from common.runtime.host import main
from hl7_gateway.module import build

main(build, service="hl7-gateway")
