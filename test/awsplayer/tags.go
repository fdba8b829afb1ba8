// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer

import (
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"
)

// maxTags is the number of tags that a resource can have.
const maxTags = 50

// tagged returns the ARN of an existing resource, and the group if it is one. The caller
// holds the lock.
func (a *account) tagged(name *string) (string, *group, error) {
	given := aws.ToString(name)
	prefix := a.arn("", "")
	if !strings.HasPrefix(given, strings.TrimSuffix(prefix, ":")) {
		return "", nil, &types.InvalidARNFault{Message: text("%s is not a valid ARN.", given)}
	}
	kind, id, _ := strings.Cut(strings.TrimPrefix(given, strings.TrimSuffix(prefix, ":")), ":")
	var err error
	var g *group
	switch kind {
	case "replicationgroup":
		g, err = a.findGroup(&id)
	case "subnetgroup":
		_, err = a.findSubnetGroup(&id)
	case "parametergroup":
		_, err = a.findParameterGroup(&id)
	case "user":
		_, err = a.findUser(&id)
	case "usergroup":
		_, err = a.findUserGroup(&id)
	case "snapshot":
		_, err = a.findSnapshot(&id)
	default:
		err = &types.InvalidARNFault{Message: text("%s is not the ARN of a resource with tags.", given)}
	}
	return given, g, err
}

func listTagsForResource(a *account, in *elasticache.ListTagsForResourceInput) (*elasticache.ListTagsForResourceOutput, error) {
	id, _, err := a.tagged(in.ResourceName)
	if err != nil {
		return nil, err
	}
	return &elasticache.ListTagsForResourceOutput{TagList: slices.Clone(a.tags[id])}, nil
}

func addTagsToResource(a *account, in *elasticache.AddTagsToResourceInput) (*elasticache.AddTagsToResourceOutput, error) {
	id, err := a.retag(in.ResourceName)
	if err != nil {
		return nil, err
	}
	tags := slices.Clone(a.tags[id])
	for _, tag := range in.Tags {
		tags = append(slices.DeleteFunc(tags, func(t types.Tag) bool { return aws.ToString(t.Key) == aws.ToString(tag.Key) }), tag)
	}
	if len(tags) > maxTags {
		return nil, &types.TagQuotaPerResourceExceeded{Message: text("A resource has at most %d tags.", maxTags)}
	}
	a.tags[id] = tags
	return &elasticache.AddTagsToResourceOutput{TagList: slices.Clone(tags)}, nil
}

func removeTagsFromResource(a *account, in *elasticache.RemoveTagsFromResourceInput) (*elasticache.RemoveTagsFromResourceOutput, error) {
	id, err := a.retag(in.ResourceName)
	if err != nil {
		return nil, err
	}
	a.tags[id] = slices.DeleteFunc(slices.Clone(a.tags[id]), func(t types.Tag) bool { return slices.Contains(in.TagKeys, aws.ToString(t.Key)) })
	return &elasticache.RemoveTagsFromResourceOutput{TagList: slices.Clone(a.tags[id])}, nil
}

// retag returns the ARN of a resource whose tags are changed. A replication group must be
// available for that, and is modifying for a time. The caller holds the lock.
func (a *account) retag(name *string) (string, error) {
	id, g, err := a.tagged(name)
	if err != nil || g == nil {
		return id, err
	}
	if _, err := a.findAvailable(&g.id); err != nil {
		return id, err
	}
	a.startPhase(g, statusModifying, a.options.ModifyTime, nil)
	return id, nil
}

// describeEvents responds with the oldest events of a duration, as many as are asked for.
func describeEvents(a *account, in *elasticache.DescribeEventsInput) (*elasticache.DescribeEventsOutput, error) {
	duration, limit := time.Hour, 100
	if in.Duration != nil {
		duration = time.Duration(*in.Duration) * time.Minute
	}
	if in.MaxRecords != nil {
		if limit = int(*in.MaxRecords); limit < 20 || limit > 100 {
			return nil, invalidValue("MaxRecords must be 20 to 100.")
		}
	}
	if duration <= 0 || duration > 14*24*time.Hour {
		return nil, invalidValue("Duration must be at most 14 days.")
	}
	out := &elasticache.DescribeEventsOutput{Events: []types.Event{}}
	since := time.Now().Add(-duration)
	for _, e := range a.events {
		if len(out.Events) < limit && e.Date.After(since) && matches(in.SourceIdentifier, e.SourceIdentifier) && (in.SourceType == "" || in.SourceType == e.SourceType) {
			out.Events = append(out.Events, e)
		}
	}
	return out, nil
}
