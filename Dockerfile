# One image for every service and for the suite: the command says which one runs.
#   docker run IMAGE                          everything in one process, on embedded storage
#   docker run IMAGE python -m hl7_gateway    one service

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /source
# The lock changes seldom, the code often: two layers.
COPY requirements.lock ./
RUN pip install --quiet --require-hashes -r requirements.lock
COPY libs libs
COPY services services
COPY suite suite
RUN pip install --quiet --no-deps --no-build-isolation ./libs/* ./services/* ./suite

FROM python:3.11-slim
LABEL org.opencontainers.image.title="Practice Studio Integrations"
RUN groupadd --gid 10001 suite \
    && useradd --uid 10001 --gid suite --no-create-home --home-dir /data --shell /usr/sbin/nologin suite \
    && install -d -o suite -g suite -m 0700 /data
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PS_HOST=0.0.0.0 \
    PS_PORT=8080 \
    PS_DATA=/data
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080 2575
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['PS_PORT']}/readyz\", timeout=2)"]
CMD ["python", "-m", "suite"]
