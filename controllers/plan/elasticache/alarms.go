// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// alarm is one on a metric of each node.
type alarm struct {
	name, metric, statistic, title string
	threshold                      int64
	// periods of five minutes in a row that must be over the threshold.
	periods int64
}

const (
	// maxConnections is four fifths of the 65,000 that a node takes
	// (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.WhichShouldIMonitor.html).
	maxConnections = 52000
	// maxLag of a replica, in seconds: flags are derived data, but promoting a replica
	// this far behind loses recent writes.
	maxLag = 30
	// billingRegion is the only one in which AWS publishes charges.
	billingRegion = "us-east-1"
	alarmPeriod   = 300
)

// nodeAlarms are the alarms on each node. The engine is one thread: its share of one
// core is the bottleneck of large nodes, and the whole machine that of nodes with one
// or two cores, where the engine shares them with everything else.
func nodeAlarms(spec *v1alpha1.ElastiCacheSpec) []alarm {
	a := spec.Alarms
	cpu := alarm{"cpu", "EngineCPUUtilization", "Average", "The engine's thread is busy", int64(a.CPUPercent), 3}
	if smallNode(spec.NodeType) {
		cpu.metric, cpu.title = "CPUUtilization", "The node's processor is busy"
	}
	alarms := []alarm{
		cpu,
		{"memory", "DatabaseMemoryUsagePercentage", "Average", "The node's memory is nearly full", int64(a.MemoryPercent), 3},
		{"evictions", "Evictions", "Sum", "The node throws entries out for lack of memory", int64(a.EvictionsPerFiveMinutes), 1},
		{"connections", "CurrConnections", "Maximum", "The node is near its limit of 65,000 connections", maxConnections, 1},
	}
	if spec.Replicas > 0 {
		alarms = append(alarms, alarm{"lag", "ReplicationLag", "Maximum", "A replica is behind, in seconds", maxLag, 3})
	}
	return alarms
}

// smallNode reports whether a node has at most two cores: the sizes up to large of
// every family (https://aws.amazon.com/elasticache/pricing/).
func smallNode(nodeType string) bool {
	size := nodeType[strings.LastIndex(nodeType, ".")+1:]
	return slices.Contains([]string{"micro", "small", "medium", "large"}, size)
}

// planAlarms renders the alarms on every node that AWS named and, where there is a
// budget, the one on the account's charges. It returns no condition where the spec
// requests no alarms. Missing alarms stop nothing.
func planAlarms(x *observed.Index, d desired, seen Observed) ([]observed.Object, *metav1.Condition) {
	if d.spec.Alarms == nil {
		return nil, nil
	}
	if !x.ACK["MetricAlarm"] {
		return nil, notConfigured(v1alpha1.ReasonACKNotInstalled,
			"The API server does not serve metricalarms.cloudwatch.services.k8s.aws: install ACK's cloudwatch-controller, or remove elastiCache.alarms")
	}
	var objects []observed.Object
	if seen.Group != nil {
		for _, node := range slices.Sorted(slices.Values(ack.Values(seen.Group.Status.MemberClusters))) {
			for _, a := range nodeAlarms(d.spec) {
				objects = append(objects, nodeAlarm(d, node, a))
			}
		}
	}
	if len(objects) == 0 {
		return nil, notConfigured(v1alpha1.ReasonConfiguring, "Waiting for AWS to name the nodes")
	}
	if budget := d.fc.Spec.Budget; budget != nil && d.spec.Alarms.TopicARN != "" {
		objects = append(objects, chargesAlarm(d, int64(budget.MonthlyUSD)))
	}
	for _, o := range objects {
		synchronized(x, o, seen.dependency(o))
	}
	return objects, alarmsConfigured(d, seen, objects)
}

func notConfigured(reason, format string, args ...any) *metav1.Condition {
	c := conditions.False(v1alpha1.ConditionAlarmsConfigured, reason, format, args...)
	return &c
}

func alarmsConfigured(d desired, seen Observed, alarms []observed.Object) *metav1.Condition {
	for _, a := range alarms {
		existing := seen.dependency(a)
		if existing == nil {
			return notConfigured(v1alpha1.ReasonConfiguring, "Creating the alarms")
		}
		if r := RefusalOf(ack.ConditionsOf(existing)); r.Reason != "" {
			return notConfigured(r.Reason, "MetricAlarm %s: %s", a.GetName(), r.Message)
		}
		if !ack.ConditionsOf(existing).Is(ack.ConditionSynced) {
			return notConfigured(v1alpha1.ReasonConfiguring, "Waiting for MetricAlarm %s", a.GetName())
		}
	}
	message := "Every alarm exists"
	if chargesUnnotified(d) {
		message += ". The one on the account's charges notifies nobody: AWS publishes charges in " + billingRegion +
			" only, and an alarm can notify only a topic of its own region, which elastiCache.alarms.topicARN is not"
	}
	c := conditions.True(v1alpha1.ConditionAlarmsConfigured, v1alpha1.ReasonConfigured, "%s", message)
	return &c
}

// chargesUnnotified reports whether the alarm on the charges has no action:
// CloudWatch refuses one whose action is in another region.
func chargesUnnotified(d desired) bool {
	topic := d.spec.Alarms.TopicARN
	return d.fc.Spec.Budget != nil && topic != "" && regionOfARN(topic) != billingRegion
}

// regionOfARN is the fourth part, "" where there is none.
func regionOfARN(arn string) string {
	parts := strings.Split(arn, ":")
	if len(parts) < 4 {
		return ""
	}
	return parts[3]
}

func nodeAlarm(d desired, node string, a alarm) *ack.MetricAlarm {
	m := metricAlarm(d, strings.TrimPrefix(node, d.aws+"-")+"-"+a.name, node+"-"+a.name)
	m.Spec.AlarmDescription = fmt.Sprintf("%s: %s over %d. FlagCache %s/%s", a.title, a.metric, a.threshold, d.fc.Namespace, d.fc.Name)
	m.Spec.Namespace, m.Spec.MetricName, m.Spec.Statistic = "AWS/ElastiCache", a.metric, a.statistic
	m.Spec.Dimensions = []ack.Dimension{{Name: "CacheClusterId", Value: node}}
	m.Spec.Threshold, m.Spec.EvaluationPeriods, m.Spec.Period = a.threshold, a.periods, alarmPeriod
	return m
}

// chargesAlarm is on what AWS expects the whole account to be charged for
// ElastiCache this month: AWS itemizes charges no further
// (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/monitor_estimated_charges_with_cloudwatch.html).
func chargesAlarm(d desired, monthlyUSD int64) *ack.MetricAlarm {
	m := metricAlarm(d, "charges", d.aws+"-charges")
	m.Annotations[ack.AnnotationRegion] = billingRegion
	m.Spec.AlarmDescription = fmt.Sprintf("The account's estimated charges for ElastiCache are over %d USD, the budget of FlagCache %s/%s", monthlyUSD, d.fc.Namespace, d.fc.Name)
	m.Spec.Namespace, m.Spec.MetricName, m.Spec.Statistic = "AWS/Billing", "EstimatedCharges", "Maximum"
	m.Spec.Dimensions = []ack.Dimension{{Name: "Currency", Value: "USD"}, {Name: "ServiceName", Value: "AmazonElastiCache"}}
	m.Spec.Threshold, m.Spec.EvaluationPeriods, m.Spec.Period = monthlyUSD, 1, 6*3600
	if chargesUnnotified(d) {
		m.Spec.AlarmActions, m.Spec.OKActions = nil, nil
	}
	return m
}

func metricAlarm(d desired, suffix, awsName string) *ack.MetricAlarm {
	m := &ack.MetricAlarm{
		TypeMeta:   metav1.TypeMeta{APIVersion: ack.CloudWatch.String(), Kind: "MetricAlarm"},
		ObjectMeta: d.meta(d.object() + "-" + suffix),
		Spec: ack.MetricAlarmSpec{
			Name: awsName, ComparisonOperator: "GreaterThanThreshold", TreatMissingData: "notBreaching", Tags: d.tags(),
		},
	}
	if topic := d.spec.Alarms.TopicARN; topic != "" {
		m.Spec.AlarmActions, m.Spec.OKActions = []string{topic}, []string{topic}
	}
	return m
}
