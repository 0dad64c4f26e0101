"""Envoy's own API by an independent codec (envoy-data-plane, betterproto2): imported from here only.

Importing it warns about its use of pydantic, which is for its authors to hear, not for a suite that fails on warnings.
"""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Using `@model_validator` with mode='after' on a classmethod")
    from envoy_data_plane.envoy.config.core import v3 as core
    from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc_filter
    from envoy_data_plane.envoy.service.ext_proc import v3 as ext_proc
    from envoy_data_plane.envoy.type import v3 as envoy_type
    from envoy_data_plane.google import protobuf as google

__all__ = ["core", "envoy_type", "ext_proc", "ext_proc_filter", "google"]
