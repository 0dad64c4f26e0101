#!/bin/sh
# Build the router's image: build.sh [TAG [OPTION...]], with docker, or with buildah where no docker answers (or ENGINE).
# The options go to the engine's build. Times in the image are the commit's, so that it is the same whenever it is built.
set -eu
cd "$(dirname "$0")/../.."

tag=${1:-bbr}
if [ $# -gt 0 ]; then shift; fi
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' bbr/__init__.py)
revision=$(git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null || echo unknown)
epoch=$(git log -1 --format=%ct 2>/dev/null || echo 0)

engine=${ENGINE:-}
if [ -z "$engine" ] && docker info >/dev/null 2>&1; then engine=docker; fi
if [ -z "$engine" ] && command -v buildah >/dev/null; then engine=buildah; fi
set -- --tag "$tag" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" "$@"
case $engine in
  docker) SOURCE_DATE_EPOCH=$epoch exec docker build "$@" . ;;
  # Docker's image format, since OCI's has no health check.
  buildah) exec buildah build --format docker --timestamp "$epoch" "$@" . ;;
  *)
    echo "build.sh: neither a docker that answers nor buildah was found; ENGINE=docker or ENGINE=buildah says which to use" >&2
    exit 1
    ;;
esac
