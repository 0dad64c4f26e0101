# The router's image: bbr and its locked dependencies on a Python base image, started as /bbr, as the Go routers' are.
#
#   docker build --tag bbr .            or: buildah build --tag bbr .
#
# BASE needs PYTHON, a CPython 3.11, and nothing else: no shell and no package manager is used in it. BUILD_BASE needs
# pip, gcc and Python's headers besides, as the image without -slim has them; with binutils debug symbols are stripped,
# which saves 20 MB. The compiler stays in the build stage.
ARG BASE=docker.io/library/python:3.11-slim-bookworm
ARG BUILD_BASE=docker.io/library/python:3.11-bookworm

FROM ${BUILD_BASE} AS build
ARG PYTHON=/usr/local/bin/python3
ARG SOURCE_DATE_EPOCH=0
WORKDIR /build
COPY requirements.lock deploy/image/build.lock ./
# Wheels only, each with the hash that the lock files give: nothing of others is compiled, and nothing else can get in.
RUN "$PYTHON" -m pip install --no-cache-dir --no-compile --require-hashes --only-binary :all: \
      --target /out/opt/bbr --requirement requirements.lock
# What compiles bbr: it stays here.
RUN "$PYTHON" -m pip install --no-cache-dir --require-hashes --only-binary :all: \
      --target /tools --requirement build.lock
COPY hatch_build.py pyproject.toml README.md LICENSE ./
COPY bbr bbr
# The compiled wheel, unpacked. mypy reads the types of what has been installed.
RUN BBR_COMPILE=1 PYTHONPATH=/tools:/out/opt/bbr "$PYTHON" -m hatchling build --target wheel --directory /wheel \
 && "$PYTHON" -m zipfile --extract /wheel/*.whl /out/opt/bbr
COPY deploy/image/finish.sh ./
RUN PYTHON="$PYTHON" SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" sh -e finish.sh

FROM ${BASE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="bbr" \
      org.opencontainers.image.description="A body-based router for Envoy: reads the model named in a request's body and routes by it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/ /
# As the distroless images have it: nobody. The process writes no file, so the root may be read-only.
USER 65532:65532
EXPOSE 9004 9005 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/bbr", "probe", "--health-addr", "127.0.0.1:9005"]
ENTRYPOINT ["/bbr"]
