#!/usr/bin/env bash
# Copyright The FlagCache Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Fails, with a list, while the cluster of the current kubeconfig has FlagCaches. Only a
# running operator can complete their deletion: without one, removing the CRD waits forever
# and leaves every FlagCache marked for deletion, which the next operator then carries out.
set -euo pipefail
kubectl=${KUBECTL:-kubectl}

crd=$($kubectl get customresourcedefinition flagcaches.flagcache.dev --ignore-not-found --output=name)
[ -n "$crd" ] || exit 0
left=$($kubectl get flagcaches.flagcache.dev --all-namespaces --no-headers --output=custom-columns=:metadata.namespace,:metadata.name,:spec.deletionPolicy,:metadata.deletionTimestamp)
[ -n "$left" ] || exit 0
cat >&2 <<MESSAGE
Nothing was removed, because these FlagCaches exist (namespace, name, deletionPolicy, time of deletion):

$left

Delete them while the operator runs, each with what its deletionPolicy says about its cache, and try again:

  kubectl delete flagcache --namespace=NAMESPACE NAME
MESSAGE
exit 1
