package ociregistry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oci/oci-registry/internal/adminapi"
	"github.com/caddy-oci/oci-registry/internal/option"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/tasks"
	"github.com/caddy-oci/oci-registry/tasks/gc"
)

// GarbageCollection says what is removed because nothing needs it, and when. It
// goes on while the registry serves.
type GarbageCollection struct {
	// Off collects nothing unless the admin API asks for it. Default: false.
	Off bool `json:"off,omitempty"`

	// Every is the time from one round to the next. Default: 24h.
	Every caddy.Duration `json:"every,omitempty"`

	// Grace is how long blobs that nothing needs, upload sessions that nobody goes on
	// with, and left-overs stay. Default: 24h. At least 1m.
	Grace caddy.Duration `json:"grace,omitempty"`

	// UntaggedGrace is how long a manifest stays that no tag leads to, since it was
	// last asked for by its digest. Default: 336h (14 days). At least 1m.
	UntaggedGrace caddy.Duration `json:"untagged_grace,omitempty"`

	// KeepUntagged keeps such manifests until somebody deletes them. Default: false.
	KeepUntagged bool `json:"keep_untagged,omitempty"`

	// DanglingReferrers has signatures and the like go, as untagged manifests do, whose
	// subject isn't there. Default: false, they may have come before it.
	DanglingReferrers bool `json:"dangling_referrers,omitempty"`

	// Window is the part of the day in which rounds begin, in local time: 22:00-06:00,
	// say. Default: the whole day.
	Window string `json:"window,omitempty"`

	// Rate is how many manifests are read and things removed in a second, at most.
	// Default: 0, as many as can be while nobody waits for an answer.
	Rate int `json:"rate,omitempty"`

	window tasks.Window
}

// provision checks the options.
func (g *GarbageCollection) provision() (err error) {
	for name, d := range map[string]caddy.Duration{"every": g.Every, "grace": g.Grace, "untagged_grace": g.UntaggedGrace} {
		if d != 0 && time.Duration(d) < gc.MinGrace {
			return fmt.Errorf("%s is %v: want at least %v, since a push takes its time", name, time.Duration(d), gc.MinGrace)
		}
	}
	switch {
	case g.Rate < 0:
		return fmt.Errorf("rate is %d: want a number of things a second, or leave it out for no limit", g.Rate)
	case g.KeepUntagged && g.UntaggedGrace != 0:
		return errors.New("keep_untagged and untagged_grace contradict: keep one of both")
	}
	g.window, err = option.ParseWindow(g.Window)
	return err
}

// task is the collection of garbage as a Task.
func (g *GarbageCollection) task(run func(context.Context, *tasks.Round) error) tasks.Task {
	t := tasks.Task{Name: adminapi.GC, Every: 24 * time.Hour, Window: g.window, Run: run}
	switch {
	case g.Off:
		t.Every = 0
	case g.Every != 0:
		t.Every = time.Duration(g.Every)
	}
	return t
}

// collectGarbage is the Run of the job.
func (w *workplace) collectGarbage(ctx context.Context, r *tasks.Round) error {
	params, err := paramsOf(r)
	if err != nil {
		return err
	}
	after, err := placeOf(r)
	if err != nil {
		return err
	}
	w.findings.begin()
	if r.ClockMovedBefore() {
		w.plan.Load().log.Warn("the clock was set, so nothing is removed in this round of garbage collection, and what is garbage has its whole grace again")
	}
	job := &gcRound{w, r, params.DryRun}
	plan := w.plan.Load().GC
	return gc.Collect(ctx, w.Store, after, func(n oci.Name) { r.SetCursor(ctx, n.String()) }, gc.Options{
		Grace: time.Duration(plan.Grace), UntaggedGrace: time.Duration(plan.UntaggedGrace),
		KeepUntagged: plan.KeepUntagged, DanglingReferrers: plan.DanglingReferrers,
		DryRun: params.DryRun, Renew: r.ClockMovedBefore(), Wait: w.pace.Wait, Stop: job.stop, Found: job.found,
	})
}

// placeOf is the repository that a round goes on behind. After the clock was set it
// goes through all: the marks of those that came before are to be renewed as well.
func placeOf(r *tasks.Round) (oci.Name, error) {
	if r.Cursor() == "" || r.ClockMovedBefore() {
		return oci.Name{}, nil
	}
	return oci.ParseName(r.Cursor())
}

// gcRound is a round of garbage collection.
type gcRound struct {
	place *workplace
	round *tasks.Round
	dry   bool
}

// stop ends the round before it removes what it mustn't.
func (j *gcRound) stop() error {
	if j.dry {
		return nil
	}
	if err := j.place.mayChange(); err != nil {
		return err
	}
	if j.round.ClockMoved() {
		return errors.New("the clock was set while garbage was collected, so nothing is old enough to go")
	}
	return nil
}

// found counts what the round has found, and says so.
func (j *gcRound) found(f gc.Finding) {
	j.place.findings.add(f)
	plan := j.place.plan.Load()
	attrs := []any{slog.String("kind", string(f.Kind)), slog.String("repository", f.Repository), slog.String("name", f.Name)}
	switch {
	case f.Problem != "":
		j.round.Add("problems", 1)
		plan.log.Warn("garbage collection", append(attrs, slog.String("problem", f.Problem))...)
	case j.dry:
		j.round.Add("would_remove_"+counters[f.Kind], 1)
		j.round.Add("would_free_bytes", f.Size)
	default:
		j.round.Add("removed_"+counters[f.Kind], 1)
		j.round.Add("freed_bytes", f.Size)
		plan.meters.removed(f)
		plan.log.Debug("removed", append(attrs, slog.Int64("bytes", f.Size))...)
	}
}

// counters are the kinds of things as a Report counts them.
var counters = map[gc.Kind]string{
	gc.Blob: "blobs", gc.Manifest: "manifests", gc.Repository: "repositories", gc.Upload: "uploads", gc.Leftover: "leftovers",
}

// collection parses
//
//	gc off
//	gc {
//		every DURATION
//		grace DURATION
//		untagged_grace DURATION
//		keep_untagged
//		dangling_referrers
//		window FROM TO
//		rate NUMBER
//	}
func collection(to **GarbageCollection) option.Parser {
	return func(d *caddyfile.Dispenser) error {
		g := new(GarbageCollection)
		*to = g
		if g.Off = d.CountRemainingArgs() > 0; g.Off {
			return option.Choice(new(string), "off")(d)
		}
		return option.Block(d, option.Set{
			"every":              option.Duration(&g.Every),
			"grace":              option.Duration(&g.Grace),
			"untagged_grace":     option.Duration(&g.UntaggedGrace),
			"keep_untagged":      option.Flag(&g.KeepUntagged),
			"dangling_referrers": option.Flag(&g.DanglingReferrers),
			"window":             option.Window(&g.Window),
			"rate":               option.Number(&g.Rate),
		})
	}
}
