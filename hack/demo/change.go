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

// changed is the flag that is changed.
const changed = "maintenance"

// agreeing is how many answers in a row must carry the new value: enough that
// every pod gave some of them.
const agreeing = 10

// changeFlag changes a flag in the ConfigMap and waits for the new value.
func (d *demo) changeFlag(ctx context.Context) error {
	d.chapter("Changing a flag")
	d.say("In ConfigMap %s, the default of the flag %s goes from off to on.", flagFile, changed)
	if err := d.editFlags(ctx); err != nil {
		return err
	}
	took, err := d.await(ctx, "every pod answers with the new value", 30*time.Second, d.drawChange)
	if err != nil {
		return err
	}
	d.came("every pod serves the new value, %s after the change, without a restart", round(took))
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
		return fmt.Errorf("understanding the flags: %w", err)
	}
	flag, ok := file["flags"].(map[string]any)[changed].(map[string]any)
	if !ok {
		return fmt.Errorf("the sample has no flag %s", changed)
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

// drawChange asks until one answer still carries the old value.
func (d *demo) drawChange(ctx context.Context) (sight, error) {
	for range agreeing {
		answer, err := d.endpoint.Evaluate(ctx, changed, nil)
		if err != nil {
			return sight{}, err
		}
		if answer.Variant != "on" {
			return sight{picture: []string{fmt.Sprintf("%s %s is %s", markNone, changed, describe(answer))}}, nil
		}
	}
	return sight{done: true, picture: []string{fmt.Sprintf("%s %s is true (variant on)", markGood, changed)}}, nil
}
