"""Servers in the lab that gateways ask about requests: Istio's sample of external authorization, and Envoy's limits."""

import contextlib

import yaml

from deploy.lab import lab as stand
from deploy.lab import parts, setting
from deploy.lab.network import DOMAIN

# Lets in what has this header, over HTTP and gRPC.
AUTHORIZER, AUTHORIZER_HTTP, AUTHORIZER_GRPC = "ext-authz", 8000, 9000
LET_IN = {"x-ext-authz": "allow"}
# Counts the requests of several Envoys. Each value of a descriptor with this key may have so many.
COUNTER, COUNTER_GRPC, DOMAIN_OF_LIMITS, LIMIT_KEY, LIMIT = "ratelimit", 8081, "models", "limit", 3
_REDIS = "redis"
_H2C = "kubernetes.io/h2c"


def host(name):
    return f"{name}.{setting.NAMESPACE}.svc.{DOMAIN}"


def server(name, image, ports, probe, **more):
    """Return a Deployment of one pod, and its Service.

    Args:
        name: of both.
        image: what runs.
        ports: of both: the number, and the appProtocol or None.
        probe: what says that it is ready.
        more: of the container; `volumes` is of the pod.
    """
    labels = {"app": name}
    meta = {"name": name, "namespace": setting.NAMESPACE}
    volumes = more.pop("volumes", [])
    container = {
        "name": name,
        "image": image,
        "ports": [{"containerPort": number} for number, _ in ports],
        "readinessProbe": probe | {"periodSeconds": 1},
        "securityContext": setting.RESTRICTED,
    }
    spec = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container | more], "volumes": volumes}},
    }
    listed = [
        {"name": f"port-{number}", "port": number} | ({"appProtocol": protocol} if protocol else {})
        for number, protocol in ports
    ]
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"selector": labels, "ports": listed}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec},
    ]


def authorizer():
    ports = [(AUTHORIZER_HTTP, "http"), (AUTHORIZER_GRPC, _H2C)]
    image = f"lab/ext-authz:{parts.EXT_AUTHZ.version}"
    return server(AUTHORIZER, image, ports, {"tcpSocket": {"port": AUTHORIZER_GRPC}})


def counter():
    """Return the service for limits with its configuration, and the Redis that it counts in."""
    limits = {
        "domain": DOMAIN_OF_LIMITS,
        # Of a year, so that no test meets the end of a window.
        "descriptors": [{"key": LIMIT_KEY, "rate_limit": {"unit": "year", "requests_per_unit": LIMIT}}],
    }
    environment = {
        "REDIS_SOCKET_TYPE": "tcp",
        "REDIS_URL": f"{host(_REDIS)}:6379",
        "USE_STATSD": "false",
        "RUNTIME_ROOT": "/data",
        "RUNTIME_SUBDIRECTORY": "ratelimit",
        "RUNTIME_WATCH_ROOT": "false",
        "RUNTIME_IGNOREDOTFILES": "true",
    }
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": COUNTER, "namespace": setting.NAMESPACE},
        "data": {"models.yaml": yaml.safe_dump(limits)},
    }
    redis = server(_REDIS, f"lab/redis:{parts.REDIS.version}", [(6379, None)], {"tcpSocket": {"port": 6379}})
    service = server(
        COUNTER,
        f"envoyproxy/ratelimit:{parts.RATE_LIMIT.version}",
        [(COUNTER_GRPC, _H2C)],
        {"httpGet": {"path": "/healthcheck", "port": 8080}},
        env=[{"name": name, "value": value} for name, value in environment.items()],
        volumeMounts=[{"name": "limits", "mountPath": "/data/ratelimit/config"}],
        volumes=[{"name": "limits", "configMap": {"name": COUNTER}}],
    )
    return [*redis, settings, *service]


@contextlib.contextmanager
def running(lab, documents):
    """Have servers until the end."""
    text = yaml.safe_dump_all(documents)
    try:
        lab.apply(text)
        for each in documents:
            if each["kind"] == "Deployment":
                stand.rollout(lab, each["metadata"]["name"])
        yield
    finally:
        lab.kubectl("delete", "--ignore-not-found", "--filename=-", text=text)
