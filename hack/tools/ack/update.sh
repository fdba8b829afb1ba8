#!/usr/bin/env bash
# Copyright The FlagCache Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Changes the version of ACK:
#
#   hack/tools/ack/update.sh [VERSION]
#
# VERSION is of the elasticache-controller, by default the latest release. The modules that
# it requires follow: ACK's runtime, and the ec2-controller, whose types FlagCache uses too.
# What is generated follows; make manifests fails if ACK has fields that hack/ackfields does
# not know. The tests tell whether the version works.
set -euo pipefail
cd "$(dirname "$0")/../../.."

module=github.com/aws-controllers-k8s/elasticache-controller@${1:-latest}
for dir in . hack/tools/ack; do
	(cd "$dir" && go get "$module" && go mod tidy)
done
make manifests
