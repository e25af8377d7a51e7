"""`python -m auth_gateway`: this service alone."""

from auth_gateway.module import build
from common.runtime.host import main

main(build, service="auth-gateway")
