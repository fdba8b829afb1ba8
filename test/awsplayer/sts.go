// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer

import (
	"crypto/rand"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
)

// stsActions are the actions of STS.
var stsActions = map[string]action{
	"GetCallerIdentity": act(getCallerIdentity),
	"AssumeRole":        act(assumeRole, "RoleArn", "RoleSessionName", "DurationSeconds", "ExternalId", "Tags"),
}

func getCallerIdentity(*account, *sts.GetCallerIdentityInput) (*sts.GetCallerIdentityOutput, error) {
	return &sts.GetCallerIdentityOutput{Account: aws.String(accountID), Arn: aws.String(callerARN), UserId: aws.String("AIDAEXAMPLE")}, nil
}

// assumeRole responds with credentials for a role of any account, which must be a role.
func assumeRole(_ *account, in *sts.AssumeRoleInput) (*sts.AssumeRoleOutput, error) {
	role, session := aws.ToString(in.RoleArn), aws.ToString(in.RoleSessionName)
	owner, name, isRole := strings.Cut(strings.TrimPrefix(role, "arn:aws:iam::"), ":role/")
	if !isRole || len(owner) != len(accountID) || session == "" {
		return nil, failure("ValidationError", "%s is invalid", role)
	}
	duration := time.Hour
	if in.DurationSeconds != nil {
		duration = time.Duration(*in.DurationSeconds) * time.Second
	}
	return &sts.AssumeRoleOutput{
		AssumedRoleUser: &types.AssumedRoleUser{
			Arn: aws.String("arn:aws:sts::" + owner + ":assumed-role/" + name + "/" + session), AssumedRoleId: aws.String("AROAEXAMPLE:" + session),
		},
		Credentials: &types.Credentials{
			AccessKeyId: aws.String("ASIA" + rand.Text()[:16]), SecretAccessKey: aws.String(rand.Text()), SessionToken: aws.String(rand.Text()),
			Expiration: aws.Time(time.Now().Add(duration).UTC()),
		},
	}, nil
}
