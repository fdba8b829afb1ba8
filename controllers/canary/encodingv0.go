// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"encoding/json"
	"time"

	"github.com/flagcache/flagcache/controllers/analysis"
)

// recordV0 is the format before there were versions. Its durations are numbers of
// nanoseconds.
type recordV0 struct {
	Revision   string    `json:"revision"`
	Outcome    Outcome   `json:"outcome"`
	Reason     string    `json:"reason"`
	Message    string    `json:"message"`
	StartedAt  time.Time `json:"startedAt"`
	FinishedAt time.Time `json:"finishedAt"`
	Lifted     bool      `json:"lifted"`
	Passed     bool      `json:"passed"`
	Retried    bool      `json:"retried"`
	Intent     string    `json:"intent"`
	Trial      *trialV0  `json:"trial"`
}

type trialV0 struct {
	Step            int                  `json:"step"`
	StepStartedAt   time.Time            `json:"stepStartedAt"`
	LookedAt        time.Time            `json:"lookedAt"`
	SampledAt       time.Time            `json:"sampledAt"`
	Elapsed         time.Duration        `json:"elapsed"`
	Observed        time.Duration        `json:"observed"`
	Calm            time.Duration        `json:"calm"`
	Candidate       Counters             `json:"candidate"`
	Stable          Counters             `json:"stable"`
	Before          Counters             `json:"before"`
	Kept            int64                `json:"kept"`
	KeptBefore      int64                `json:"keptBefore"`
	Blocks          *blocksV0            `json:"blocks"`
	RecentCandidate Decaying             `json:"recentCandidate"`
	RecentStable    Decaying             `json:"recentStable"`
	Origin          string               `json:"origin"`
	Streams         map[string]readingV0 `json:"streams"`
	UnavailableFor  time.Duration        `json:"unavailableFor"`
	DoubtedAt       time.Time            `json:"doubtedAt"`
	Inconclusive    bool                 `json:"inconclusive"`
	Resumed         bool                 `json:"resumed"`
	ByHand          bool                 `json:"byHand"`
	LoadTest        *loadTestV1          `json:"loadTest"`
	Policy          policyV0             `json:"policy"`
}

type readingV0 struct {
	Counts Counters `json:"counts"`
	Kept   int64    `json:"kept"`
	Missed int      `json:"missed"`
}

type blocksV0 struct {
	Open     Counters                  `json:"open"`
	OpenFor  time.Duration             `json:"openFor"`
	Stable   Counters                  `json:"stable"`
	Complete map[Check]analysis.Blocks `json:"complete"`
	Before   map[Check]int64           `json:"before"`
}

type policyV0 struct {
	Limits          map[Check]float64 `json:"limits"`
	Alpha           float64           `json:"alpha"`
	MinimumRequests int64             `json:"minimumRequests"`
	Block           time.Duration     `json:"block"`
	MinimumBlocks   int64             `json:"minimumBlocks"`
	Strict          bool              `json:"strict"`
}

func decodeV0(text string) (Record, error) {
	var s recordV0
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return Record{}, err
	}
	return Record{
		Revision: s.Revision, Outcome: s.Outcome, Reason: s.Reason, Message: s.Message, StartedAt: s.StartedAt, FinishedAt: s.FinishedAt,
		Lifted: s.Lifted, Passed: s.Passed, Retried: s.Retried, Intent: s.Intent, Canary: s.Trial.decode(),
	}, nil
}

func (t *trialV0) decode() *State {
	if t == nil {
		return nil
	}
	state := &State{
		Policy: Policy(t.Policy),
		Progress: Progress{
			Step: t.Step, StepStartedAt: t.StepStartedAt, DecidedAt: t.LookedAt, Elapsed: t.Elapsed, Observed: t.Observed,
			HealthyFor: t.Calm, UnavailableFor: t.UnavailableFor, SuspectedAt: t.DoubtedAt,
			Inconclusive: t.Inconclusive, Resumed: t.Resumed, Forced: t.ByHand, LoadTest: (*LoadTestResult)(t.LoadTest),
		},
		Ledger: Ledger{
			Origin: t.Origin, SampledAt: t.SampledAt, Candidate: t.Candidate, Stable: t.Stable, Local: t.Kept,
			CandidateAtStep: t.Before, LocalAtStep: t.KeptBefore, RecentCandidate: t.RecentCandidate, RecentStable: t.RecentStable,
		},
	}
	if b := t.Blocks; b != nil {
		state.Ledger.Blocks = &TimeBlocks{Open: b.Open, Stable: b.Stable, OpenFor: b.OpenFor, Complete: b.Complete, AtStep: b.Before}
	}
	if t.Streams != nil {
		state.Ledger.Streams = make(map[string]Reading, len(t.Streams))
		for id, s := range t.Streams {
			state.Ledger.Streams[id] = Reading{Counts: s.Counts, Local: s.Kept, Missed: s.Missed}
		}
	}
	return state
}
