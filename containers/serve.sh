#!/bin/sh
# Starts Triton in the container as `retrieval serve` does on a plain machine (a test compares the options); what is
# given to it comes after, and so goes before: docker run ... --grpc-use-ssl=true --grpc-server-cert=...
set -eu
umask 022

# Triton 2.51 hands the path to a shell as it is.
case "${MODELS:=/models}" in
/*[!A-Za-z0-9/._-]* | [!/]*)
    echo "MODELS=$MODELS: expected an absolute path of letters, digits, '.', '_', '-' and '/'" >&2
    exit 2
    ;;
esac

# Python imports from the directory in which it is started: one without a file in it, so that it does not matter where
# the container was. What is served is never asked for through a proxy.
cd "${EMPTY:-/usr/local/lib/retrieval/empty}"
unset http_proxy https_proxy grpc_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY PYTHONPATH PYTHONHOME

# Loading a model is running its code, so anyone who wants to needs this key. Triton takes it on its command line.
key="${RETRIEVAL_ADMIN_KEY:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}"
guarded="model-repository,shared-memory,trace,logging"

# Triton's stub imports NumPy before any model can say how many threads it may take.
threads="${RETRIEVAL_THREADS:-1}"
export OMP_NUM_THREADS="$threads" OPENBLAS_NUM_THREADS="$threads" MKL_NUM_THREADS="$threads"

# 0.0.0.0 is this container's own network: what is published of it, docker run -p or a Service says. HTTP is for probes
# from inside.
exec tritonserver \
    --model-repository="$MODELS" \
    --disable-auto-complete-config \
    --model-control-mode=explicit \
    --load-model='*' \
    --strict-readiness=false \
    --grpc-address=0.0.0.0 \
    --grpc-port=8001 \
    --http-address=127.0.0.1 \
    --http-port=8000 \
    --metrics-address=0.0.0.0 \
    --metrics-port=8002 \
    --allow-gpu-metrics=false \
    --grpc-restricted-protocol="$guarded:admin-key=$key" \
    --http-restricted-api="$guarded:admin-key=$key" \
    --exit-timeout-secs=15 \
    "$@"
