// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/flagcache/flagcache/controllers/analysis"
)

// version of the format that Encode writes. Whoever changes a type below in a way that
// an older operator would misread gives the format another number, keeps the old types
// for Decode, and adds a record of the old version to the tests.
const version = 1

// recordV1 is a Record as it is stored. Durations are strings such as "1m30s", times are
// in RFC 3339, and what is zero is left out.
type recordV1 struct {
	Version    int        `json:"version"`
	Revision   string     `json:"revision"`
	Outcome    Outcome    `json:"outcome,omitempty"`
	Reason     string     `json:"reason,omitempty"`
	Message    string     `json:"message,omitempty"`
	StartedAt  time.Time  `json:"startedAt,omitzero"`
	FinishedAt time.Time  `json:"finishedAt,omitzero"`
	Lifted     bool       `json:"lifted,omitempty"`
	Passed     bool       `json:"passed,omitempty"`
	Admitted   bool       `json:"admitted,omitempty"`
	Retried    bool       `json:"retried,omitempty"`
	Used       commandsV1 `json:"used,omitzero"`
	Intent     string     `json:"intent,omitempty"`
	Canary     *stateV1   `json:"canary,omitempty"`
}

type commandsV1 struct {
	Abort   bool `json:"abort,omitempty"`
	Promote bool `json:"promote,omitempty"`
	Pause   bool `json:"pause,omitempty"`
	Resume  bool `json:"resume,omitempty"`
}

type stateV1 struct {
	Policy   policyV1   `json:"policy"`
	Progress progressV1 `json:"progress"`
	Ledger   ledgerV1   `json:"ledger"`
}

type policyV1 struct {
	Limits          map[Check]float64 `json:"limits,omitempty"`
	Alpha           float64           `json:"alpha,omitempty"`
	MinimumRequests int64             `json:"minimumRequests,omitempty"`
	Block           duration          `json:"block,omitzero"`
	MinimumBlocks   int64             `json:"minimumBlocks,omitempty"`
	Strict          bool              `json:"strict,omitempty"`
}

type progressV1 struct {
	Step           int         `json:"step"`
	StepStartedAt  time.Time   `json:"stepStartedAt,omitzero"`
	DecidedAt      time.Time   `json:"decidedAt,omitzero"`
	SharedAt       time.Time   `json:"sharedAt,omitzero"`
	Elapsed        duration    `json:"elapsed,omitzero"`
	Observed       duration    `json:"observed,omitzero"`
	HealthyFor     duration    `json:"healthyFor,omitzero"`
	UnavailableFor duration    `json:"unavailableFor,omitzero"`
	StableDownFor  duration    `json:"stableDownFor,omitzero"`
	SuspectedAt    time.Time   `json:"suspectedAt,omitzero"`
	Inconclusive   bool        `json:"inconclusive,omitempty"`
	Resumed        bool        `json:"resumed,omitempty"`
	Forced         bool        `json:"forced,omitempty"`
	LoadTest       *loadTestV1 `json:"loadTest,omitempty"`
}

type loadTestV1 struct {
	Passed bool   `json:"passed"`
	Report string `json:"report,omitempty"`
}

type ledgerV1 struct {
	Origin          string               `json:"origin,omitempty"`
	Continues       bool                 `json:"continues,omitempty"`
	SampledAt       time.Time            `json:"sampledAt,omitzero"`
	Candidate       Counters             `json:"candidate,omitempty"`
	Stable          Counters             `json:"stable,omitempty"`
	Local           int64                `json:"local,omitempty"`
	CandidateAtStep Counters             `json:"candidateAtStep,omitempty"`
	LocalAtStep     int64                `json:"localAtStep,omitempty"`
	RecentCandidate Decaying             `json:"recentCandidate,omitempty"`
	RecentStable    Decaying             `json:"recentStable,omitempty"`
	Blocks          *blocksV1            `json:"blocks,omitempty"`
	Streams         map[string]readingV1 `json:"streams,omitempty"`
}

type readingV1 struct {
	Counts Counters `json:"counts"`
	Local  int64    `json:"local,omitempty"`
	Missed int      `json:"missed,omitempty"`
}

type blocksV1 struct {
	Open     Counters                  `json:"open,omitempty"`
	Stable   Counters                  `json:"stable,omitempty"`
	OpenFor  duration                  `json:"openFor,omitzero"`
	Complete map[Check]analysis.Blocks `json:"complete,omitempty"`
	AtStep   map[Check]int64           `json:"atStep,omitempty"`
}

// duration is encoded as a string.
type duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return errors.New("a duration is not valid")
	}
	*d = duration(parsed)
	return nil
}

// Encode returns the record in the current version of its format.
func (r Record) Encode() string {
	text, err := json.Marshal(recordV1{
		Version: version, Revision: r.Revision, Outcome: r.Outcome, Reason: r.Reason, Message: r.Message,
		StartedAt: r.StartedAt, FinishedAt: r.FinishedAt, Lifted: r.Lifted, Passed: r.Passed, Admitted: r.Admitted, Retried: r.Retried,
		Used: commandsV1(r.Used), Intent: r.Intent, Canary: encodeState(r.Canary),
	})
	if err != nil {
		panic(fmt.Sprintf("a record made of plain data does not marshal: %v", err))
	}
	return string(text)
}

func encodeState(s *State) *stateV1 {
	if s == nil {
		return nil
	}
	p, l := s.Progress, s.Ledger
	stored := &stateV1{
		Policy: policyV1{
			Limits: s.Policy.Limits, Alpha: s.Policy.Alpha, MinimumRequests: s.Policy.MinimumRequests,
			Block: duration(s.Policy.Block), MinimumBlocks: s.Policy.MinimumBlocks, Strict: s.Policy.Strict,
		},
		Progress: progressV1{
			Step: p.Step, StepStartedAt: p.StepStartedAt, DecidedAt: p.DecidedAt, SharedAt: p.SharedAt, Elapsed: duration(p.Elapsed), Observed: duration(p.Observed),
			HealthyFor: duration(p.HealthyFor), UnavailableFor: duration(p.UnavailableFor), StableDownFor: duration(p.StableDownFor), SuspectedAt: p.SuspectedAt,
			Inconclusive: p.Inconclusive, Resumed: p.Resumed, Forced: p.Forced, LoadTest: (*loadTestV1)(p.LoadTest),
		},
		Ledger: ledgerV1{
			Origin: l.Origin, Continues: l.Continues, SampledAt: l.SampledAt, Candidate: l.Candidate, Stable: l.Stable, Local: l.Local,
			CandidateAtStep: l.CandidateAtStep, LocalAtStep: l.LocalAtStep, RecentCandidate: l.RecentCandidate, RecentStable: l.RecentStable,
		},
	}
	if b := l.Blocks; b != nil {
		stored.Ledger.Blocks = &blocksV1{Open: b.Open, Stable: b.Stable, OpenFor: duration(b.OpenFor), Complete: b.Complete, AtStep: b.AtStep}
	}
	if l.Streams != nil {
		stored.Ledger.Streams = make(map[string]readingV1, len(l.Streams))
		for id, reading := range l.Streams {
			stored.Ledger.Streams[id] = readingV1(reading)
		}
	}
	return stored
}

// Decode reads a record in any version of its format: the current one, or the one
// without a version that came before. It fails for a version that it does not know, which
// a newer operator wrote, and for a text that no operator wrote.
func Decode(text string) (Record, error) {
	if text == "" {
		return Record{}, errors.New("the record is empty")
	}
	var header struct {
		Version *int `json:"version"`
	}
	if err := json.Unmarshal([]byte(text), &header); err != nil {
		return Record{}, invalid(err)
	}
	var r Record
	var err error
	switch {
	case header.Version == nil:
		r, err = decodeV0(text)
	case *header.Version == 1:
		r, err = decodeV1(text)
	default:
		return Record{}, fmt.Errorf("the record has version %d, which is unknown: this operator reads versions up to %d", *header.Version, version)
	}
	if err == nil {
		err = r.validate()
	}
	if err != nil {
		return Record{}, invalid(err)
	}
	return r, nil
}

// invalid is an error that fits into a condition, whatever the record contains.
func invalid(err error) error {
	const maxText = 200
	text := err.Error()
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return errors.New("the record is not valid: " + text)
}

func decodeV1(text string) (Record, error) {
	var s recordV1
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return Record{}, err
	}
	return Record{
		Revision: s.Revision, Outcome: s.Outcome, Reason: s.Reason, Message: s.Message, StartedAt: s.StartedAt, FinishedAt: s.FinishedAt,
		Lifted: s.Lifted, Passed: s.Passed, Admitted: s.Admitted, Retried: s.Retried,
		Used: Commands(s.Used), Intent: s.Intent, Canary: s.Canary.decode(),
	}, nil
}

func (s *stateV1) decode() *State {
	if s == nil {
		return nil
	}
	p, l := s.Progress, s.Ledger
	state := &State{
		Policy: Policy{
			Limits: s.Policy.Limits, Alpha: s.Policy.Alpha, MinimumRequests: s.Policy.MinimumRequests,
			Block: time.Duration(s.Policy.Block), MinimumBlocks: s.Policy.MinimumBlocks, Strict: s.Policy.Strict,
		},
		Progress: Progress{
			Step: p.Step, StepStartedAt: p.StepStartedAt, DecidedAt: p.DecidedAt, SharedAt: p.SharedAt, Elapsed: time.Duration(p.Elapsed), Observed: time.Duration(p.Observed),
			HealthyFor: time.Duration(p.HealthyFor), UnavailableFor: time.Duration(p.UnavailableFor), StableDownFor: time.Duration(p.StableDownFor), SuspectedAt: p.SuspectedAt,
			Inconclusive: p.Inconclusive, Resumed: p.Resumed, Forced: p.Forced, LoadTest: (*LoadTestResult)(p.LoadTest),
		},
		Ledger: Ledger{
			Origin: l.Origin, Continues: l.Continues, SampledAt: l.SampledAt, Candidate: l.Candidate, Stable: l.Stable, Local: l.Local,
			CandidateAtStep: l.CandidateAtStep, LocalAtStep: l.LocalAtStep, RecentCandidate: l.RecentCandidate, RecentStable: l.RecentStable,
		},
	}
	if b := l.Blocks; b != nil {
		state.Ledger.Blocks = &TimeBlocks{Open: b.Open, Stable: b.Stable, OpenFor: time.Duration(b.OpenFor), Complete: b.Complete, AtStep: b.AtStep}
	}
	if l.Streams != nil {
		state.Ledger.Streams = make(map[string]Reading, len(l.Streams))
		for id, reading := range l.Streams {
			state.Ledger.Streams[id] = Reading(reading)
		}
	}
	return state
}

// validate finds what no operator writes.
func (r Record) validate() error {
	switch r.Outcome {
	case "", Promoted, RolledBack, Superseded:
	default:
		return errors.New("its outcome is unknown")
	}
	if r.Revision == "" {
		return errors.New("it names no revision")
	}
	if r.Canary == nil {
		return nil
	}
	p := r.Canary.Progress
	if p.Step < 0 {
		return errors.New("its step is negative")
	}
	if min(p.Elapsed, p.Observed, p.HealthyFor, p.UnavailableFor, p.StableDownFor, r.Canary.Policy.Block) < 0 || r.Canary.Ledger.Blocks != nil && r.Canary.Ledger.Blocks.OpenFor < 0 {
		return errors.New("it has a negative duration")
	}
	return nil
}
