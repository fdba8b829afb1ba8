// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// changedFlag is the flag that changeFlag changes.
const changedFlag = "maintenance"

// consecutiveAnswers is the number of answers in a row that must have the new value:
// enough that every pod gave some of them.
const consecutiveAnswers = 10

// changeFlag changes a flag in the ConfigMap and waits for the new value.
func (d *demo) changeFlag(ctx context.Context) error {
	d.section("Changing a flag")
	d.print("The default variant of the flag %[2]s changes from off to on in the ConfigMap %[1]s.", flagFile, changedFlag)
	if err := d.editFlags(ctx); err != nil {
		return err
	}
	took, err := d.await(ctx, "every pod serves the new value", 2*time.Minute, d.observeFlagChange)
	if err != nil {
		return err
	}
	d.success("every pod serves the new value, %s after the change, without a restart", round(took))
	return nil
}

// editFlags writes the changed flag into the ConfigMap.
func (d *demo) editFlags(ctx context.Context) error {
	configMap := &corev1.ConfigMap{}
	if err := d.cluster.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: flagFile}, configMap); err != nil {
		return fmt.Errorf("reading the flags: %w", err)
	}
	file := map[string]any{}
	if err := json.Unmarshal([]byte(configMap.Data[flagKey]), &file); err != nil {
		return fmt.Errorf("parsing the flags: %w", err)
	}
	flag, ok := file["flags"].(map[string]any)[changedFlag].(map[string]any)
	if !ok {
		return fmt.Errorf("the sample has no flag %s", changedFlag)
	}
	flag["defaultVariant"] = "on"
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the flags: %w", err)
	}
	configMap.Data[flagKey] = string(text)
	if err := d.cluster.Client.Update(ctx, configMap); err != nil {
		return fmt.Errorf("changing the flags: %w", err)
	}
	return nil
}

// observeFlagChange is done when no answer has the old value any more.
func (d *demo) observeFlagChange(ctx context.Context) (observation, error) {
	for range consecutiveAnswers {
		answer, err := d.endpoint.Evaluate(ctx, changedFlag, nil)
		if err != nil {
			return observation{}, err
		}
		if answer.Variant != "on" {
			return observation{lines: []string{fmt.Sprintf("%s %s is %s", markNone, changedFlag, describe(answer))}}, nil
		}
	}
	return observation{done: true, lines: []string{fmt.Sprintf("%s %s is true (variant on)", markGood, changedFlag)}}, nil
}
