// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
)

// writes counts the requests to write FlagCaches and the kinds of their children, by
// verb and resource, of all clients and whether or not they changed anything.
// Subresources of children are left out: Kubernetes writes those.
func writes(ctx context.Context) map[string]int {
	GinkgoHelper()
	client, err := kubernetes.NewForConfig(local.Config)
	Expect(err).NotTo(HaveOccurred())
	text, err := client.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	Expect(err).NotTo(HaveOccurred())
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	Expect(err).NotTo(HaveOccurred())
	Expect(families).To(HaveKey("apiserver_request_total"))

	counts := map[string]int{}
	for _, m := range families["apiserver_request_total"].Metric {
		if request := describeWrite(m); request != "" {
			counts[request] += int(m.Counter.GetValue())
		}
	}
	return counts
}

// describeWrite is verb and resource of a request that writes a FlagCache or a
// child, "" for any other.
func describeWrite(m *dto.Metric) string {
	label := map[string]string{}
	for _, l := range m.Label {
		label[l.GetName()] = l.GetValue()
	}
	switch label["verb"] {
	case "POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION":
	default:
		return ""
	}
	switch label["resource"] {
	case "flagcaches":
		return fmt.Sprintf("%s %s/%s", label["verb"], label["resource"], label["subresource"])
	case "secrets", "configmaps", "services", "deployments", "statefulsets", "controllerrevisions",
		"poddisruptionbudgets", "horizontalpodautoscalers", "networkpolicies":
		if label["subresource"] == "" {
			return label["verb"] + " " + label["resource"]
		}
	}
	return ""
}

// terminatingNamespaces are those that are being deleted.
func terminatingNamespaces(ctx context.Context) ([]string, error) {
	var terminating []string
	list := &corev1.NamespaceList{}
	if err := local.Client.List(ctx, list); err != nil {
		return nil, err
	}
	for _, namespace := range list.Items {
		if namespace.DeletionTimestamp != nil {
			terminating = append(terminating, namespace.Name)
		}
	}
	return terminating, nil
}

// since are the writes after an earlier count.
func since(earlier, now map[string]int) map[string]int {
	more := map[string]int{}
	for request, n := range now {
		if n > earlier[request] {
			more[request] = n - earlier[request]
		}
	}
	return more
}
