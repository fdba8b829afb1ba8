// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

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
	name, metric, statistic, words string
	threshold                      int64
	// periods of five minutes in a row that must be over the threshold.
	periods int64
}

const (
	// mostConnections is four fifths of the 65,000 that a node takes
	// (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.WhichShouldIMonitor.html).
	mostConnections = 52000
	// mostLag of a replica, in seconds: flags are derived data, but a replica this
	// far behind would lose what a failover promotes it with.
	mostLag = 30
	// billingRegion is the only one in which AWS publishes charges.
	billingRegion = "us-east-1"
	alarmPeriod   = 300
)

// nodeAlarms follow from the spec. The engine is one thread: its share of one core
// is what is short on large nodes, and the whole machine's on those of one or two
// cores, where the engine shares them with all else.
func (c elastiCache) nodeAlarms() []alarm {
	a := c.spec.Alarms
	cpu := alarm{"cpu", "EngineCPUUtilization", "Average", "The engine's thread is busy", int64(a.CPUPercent), 3}
	if smallNode(c.spec.NodeType) {
		cpu.metric, cpu.words = "CPUUtilization", "The node's processor is busy"
	}
	alarms := []alarm{
		cpu,
		{"memory", "DatabaseMemoryUsagePercentage", "Average", "The node's memory is nearly full", int64(a.MemoryPercent), 3},
		{"evictions", "Evictions", "Sum", "The node throws entries out for lack of memory", int64(a.EvictionsPerFiveMinutes), 1},
		{"connections", "CurrConnections", "Maximum", "The node is near its limit of 65,000 connections", mostConnections, 1},
	}
	if c.spec.Replicas > 0 {
		alarms = append(alarms, alarm{"lag", "ReplicationLag", "Maximum", "A replica is behind, in seconds", mostLag, 3})
	}
	return alarms
}

// smallNode tells whether a node has at most two cores: the sizes up to large of
// every family (https://aws.amazon.com/elasticache/pricing/).
func smallNode(nodeType string) bool {
	size := nodeType[strings.LastIndex(nodeType, ".")+1:]
	return slices.Contains([]string{"micro", "small", "medium", "large"}, size)
}

// alarms asks for the alarms on every node that AWS named, and for one on the
// account's charges where there is a budget. That they are missing stops nothing.
func (c elastiCache) alarms(condition **metav1.Condition) []observed.Object {
	if c.spec.Alarms == nil {
		return nil
	}
	say := func(said metav1.Condition) { *condition = &said }
	if !c.s.ACK["MetricAlarm"] {
		say(conditions.False(v1alpha1.ConditionAlarmsConfigured, v1alpha1.ReasonACKNotInstalled,
			"The API server does not know metricalarms.cloudwatch.services.k8s.aws: install ACK's cloudwatch-controller, or remove elastiCache.alarms"))
		return nil
	}
	var objects []observed.Object
	if c.group != nil {
		for _, node := range slices.Sorted(slices.Values(c.group.Status.MemberClusters)) {
			for _, a := range c.nodeAlarms() {
				objects = append(objects, c.nodeAlarm(node, a))
			}
		}
	}
	if len(objects) == 0 {
		say(conditions.False(v1alpha1.ConditionAlarmsConfigured, v1alpha1.ReasonConfiguring, "Waiting for AWS to name the nodes"))
		return nil
	}
	if budget := c.fc.Spec.Budget; budget != nil && c.spec.Alarms.TopicARN != "" {
		objects = append(objects, c.chargesAlarm(int64(budget.MonthlyUSD)))
	}
	say(c.judgeAlarms(objects))
	return objects
}

func (c elastiCache) judgeAlarms(objects []observed.Object) metav1.Condition {
	for _, o := range objects {
		seen := seenLike(c.s, o)
		if seen == nil {
			return conditions.False(v1alpha1.ConditionAlarmsConfigured, v1alpha1.ReasonConfiguring, "Asking for the alarms")
		}
		if r := refusalOf(seen.ACKStatus()); r.reason != "" {
			return conditions.False(v1alpha1.ConditionAlarmsConfigured, r.reason, "MetricAlarm %s: %s", o.GetName(), r.words)
		}
		if !seen.ACKStatus().Is(ack.ConditionSynced) {
			return conditions.False(v1alpha1.ConditionAlarmsConfigured, v1alpha1.ReasonConfiguring, "Waiting for MetricAlarm %s", o.GetName())
		}
	}
	if c.chargesGoUntold() {
		return conditions.True(v1alpha1.ConditionAlarmsConfigured, v1alpha1.ReasonConfigured, "Every alarm exists. That on the account's charges tells nobody: "+
			"AWS publishes charges in %s alone, and an alarm tells only a topic of its own region, which elastiCache.alarms.topicARN is not", billingRegion)
	}
	return conditions.True(v1alpha1.ConditionAlarmsConfigured, v1alpha1.ReasonConfigured, "Every alarm exists")
}

// chargesGoUntold: CloudWatch refuses an alarm whose action is in another region.
func (c elastiCache) chargesGoUntold() bool {
	topic := c.spec.Alarms.TopicARN
	return c.fc.Spec.Budget != nil && topic != "" && regionOfARN(topic) != billingRegion
}

// regionOfARN is the fourth part, "" where there is none.
func regionOfARN(arn string) string {
	parts := strings.Split(arn, ":")
	if len(parts) < 4 {
		return ""
	}
	return parts[3]
}

func (c elastiCache) nodeAlarm(node string, a alarm) *ack.MetricAlarm {
	m := c.metricAlarm(strings.TrimPrefix(node, c.awsID()+"-")+"-"+a.name, node+"-"+a.name)
	m.Spec.AlarmDescription = fmt.Sprintf("%s: %s over %d. FlagCache %s/%s", a.words, a.metric, a.threshold, c.fc.Namespace, c.fc.Name)
	m.Spec.Namespace, m.Spec.MetricName, m.Spec.Statistic = "AWS/ElastiCache", a.metric, a.statistic
	m.Spec.Dimensions = []ack.Dimension{{Name: "CacheClusterId", Value: node}}
	m.Spec.Threshold, m.Spec.EvaluationPeriods, m.Spec.Period = a.threshold, a.periods, alarmPeriod
	return m
}

// chargesAlarm is on what AWS expects the whole account to be charged for
// ElastiCache this month: charges are told apart no further
// (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/monitor_estimated_charges_with_cloudwatch.html).
func (c elastiCache) chargesAlarm(monthlyUSD int64) *ack.MetricAlarm {
	m := c.metricAlarm("charges", c.awsID()+"-charges")
	m.Annotations[ack.AnnotationRegion] = billingRegion
	m.Spec.AlarmDescription = fmt.Sprintf("The account's estimated charges for ElastiCache are over %d USD, the budget of FlagCache %s/%s", monthlyUSD, c.fc.Namespace, c.fc.Name)
	m.Spec.Namespace, m.Spec.MetricName, m.Spec.Statistic = "AWS/Billing", "EstimatedCharges", "Maximum"
	m.Spec.Dimensions = []ack.Dimension{{Name: "Currency", Value: "USD"}, {Name: "ServiceName", Value: "AmazonElastiCache"}}
	m.Spec.Threshold, m.Spec.EvaluationPeriods, m.Spec.Period = monthlyUSD, 1, 6*3600
	if c.chargesGoUntold() {
		m.Spec.AlarmActions, m.Spec.OKActions = nil, nil
	}
	return m
}

func (c elastiCache) metricAlarm(suffix, awsName string) *ack.MetricAlarm {
	m := &ack.MetricAlarm{
		TypeMeta:   metav1.TypeMeta{APIVersion: ack.CloudWatch.String(), Kind: "MetricAlarm"},
		ObjectMeta: c.meta(c.name() + "-" + suffix),
		Spec: ack.MetricAlarmSpec{
			Name: awsName, ComparisonOperator: "GreaterThanThreshold", TreatMissingData: "notBreaching", Tags: c.tags(),
		},
	}
	if topic := c.spec.Alarms.TopicARN; topic != "" {
		m.Spec.AlarmActions, m.Spec.OKActions = []string{topic}, []string{topic}
	}
	return m
}
