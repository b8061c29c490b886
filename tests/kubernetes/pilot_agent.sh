#!/bin/sh
# The entry of the rig's gateway image: the flags of Istio's proxy are taken and Envoy runs what the rig's controller writes.
exec /usr/local/bin/envoy -c /etc/istio/envoy.yaml --concurrency 1 --disable-hot-restart --log-level warning
