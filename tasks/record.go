package tasks

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"time"
)

// saveTimeout is how long a Save may take: Stop waits for the last one.
const saveTimeout = 5 * time.Second

// A record is what is remembered of a Task, as JSON. What a later version adds
// is optional; what this one doesn't know it drops.
type record struct {
	// Since is when the last ordinary round began, or when the Task was first seen.
	Since time.Time `json:"since"`

	// Due is when the next one is, as Timing wants it.
	Due    time.Time `json:"due,omitzero"`
	Timing timing    `json:"timing"`

	// Cursor is where the next one begins.
	Cursor string `json:"cursor,omitempty"`

	// Last is the last round that ended, ordinary or not.
	Last *Report `json:"last,omitempty"`

	// Complete is the last ordinary one that was complete.
	Complete *Report `json:"complete,omitempty"`
}

// note notes that a round has ended.
func (r *record) note(report Report) {
	r.Last = &report
	if report.ordinary() && report.Error == "" {
		r.Complete = &report
	}
}

func parseRecord(data []byte) (record, error) {
	var rec record
	if err := json.Unmarshal(data, &rec); err != nil {
		return record{}, err
	}
	if rec.Since.IsZero() {
		return record{}, errors.New("it doesn't say when the task ran")
	}
	if rec.Complete == nil && rec.Last != nil { // it was written before there was that
		rec.note(*rec.Last)
	}
	return rec, nil
}

// load returns what Memory has. What's missing is an error.
func (j *job) load(ctx context.Context) (record, error) {
	data, err := j.runner.memory.Load(ctx, j.name)
	if err != nil {
		return record{}, err
	}
	return parseRecord(data)
}

// recall loads the record when the job begins. What can't be loaded never was:
// no round comes sooner because of it.
func (j *job) recall(ctx context.Context) {
	rec, err := j.load(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		j.runner.log.LogAttrs(ctx, slog.LevelWarn, "what is remembered of a task is lost, the next round is due as if it never ran",
			slog.String("task", j.name), slog.Any("error", err))
	}
	j.runner.mu.Lock()
	j.record = rec
	j.recalled = true
	j.plan()
	j.runner.mu.Unlock()
	if err != nil {
		j.save(ctx) // the first round is due at the same time after a restart
	}
}

// save remembers the record. If that fails it's tried again with the next
// round, and logged once.
func (j *job) save(ctx context.Context) {
	j.saving <- struct{}{}
	defer func() { <-j.saving }()
	r := j.runner
	r.mu.Lock()
	data, err := json.Marshal(j.record)
	r.mu.Unlock()
	if err == nil {
		// What is due after a Stop is saved as well.
		saveCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
		defer cancel()
		err = r.memory.Save(saveCtx, j.name, data)
	}
	r.mu.Lock()
	news := err != nil && !j.unsaved
	j.unsaved = err != nil
	r.mu.Unlock()
	if news {
		r.log.LogAttrs(ctx, slog.LevelWarn, "when a task is due is not remembered",
			slog.String("task", j.name), slog.Any("error", err))
	}
}

// saveCursor remembers how far a round has come, as long as it runs.
func (j *job) saveCursor(ctx context.Context, round *Round, cursor string) {
	j.runner.mu.Lock()
	running := j.round == round
	if running {
		j.record.Cursor = cursor
	}
	j.runner.mu.Unlock()
	if running {
		j.save(ctx)
	}
}
