package tasks

import (
	"bytes"
	"encoding/json"
	"maps"
	"time"
)

// A Report is what is known of one round.
type Report struct {
	// ID tells rounds apart.
	ID string `json:"id"`

	// Began and Ended are wall clock times. Ended is missing while the round runs.
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended,omitzero"`

	// Error says why the round isn't complete. Missing if it is, or while it runs.
	Error string `json:"error,omitempty"`

	// Counts are what the Task counted, by names of its own.
	Counts map[string]int64 `json:"counts,omitempty"`

	// Cursor is how far the round has come, in words of the Task's own. Missing if
	// the Task keeps none, or the round is complete.
	Cursor string `json:"cursor,omitempty"`

	// Params are what the round was asked for with. Missing if it's an ordinary one.
	Params json.RawMessage `json:"params,omitempty"`
}

func (r Report) ordinary() bool { return len(r.Params) == 0 }

func (r Report) clone() Report {
	r.Counts = maps.Clone(r.Counts)
	r.Params = bytes.Clone(r.Params)
	return r
}

// A Status is what is known of a Task: the round that runs, the last one that
// ended, and the last one that was complete, no others.
type Status struct {
	// Name is the Task's.
	Name string `json:"name"`

	// Due is when the next round is due, by the wall clock. Missing if rounds are
	// only asked for, or what is remembered of the Task is still being loaded.
	Due time.Time `json:"due,omitzero"`

	// Current is the round that runs. Missing if none does.
	Current *Report `json:"current,omitempty"`

	// Last is the last round that ended, maybe in a process before this one.
	// Missing if there's none.
	Last *Report `json:"last,omitempty"`

	// Complete is the last ordinary round that was complete, whatever came after it.
	// Missing if there's none.
	Complete *Report `json:"complete,omitempty"`
}
