package ociregistry

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oci/oci-registry/internal/adminapi"
	"github.com/caddy-oci/oci-registry/internal/option"
	"github.com/caddy-oci/oci-registry/tasks"
	"github.com/caddy-oci/oci-registry/tasks/scrub"
)

// Scrubbing says when all that's kept is read and compared with what it's called,
// and how fast. It goes on while the registry serves.
type Scrubbing struct {
	// Off reads nothing unless the admin API asks for it. Default: false.
	Off bool `json:"off,omitempty"`

	// Every is the time from one round to the next. Default: 168h (a week).
	Every caddy.Duration `json:"every,omitempty"`

	// Window is the part of the day in which rounds begin, in local time: 22:00-06:00,
	// say. Default: the whole day.
	Window string `json:"window,omitempty"`

	// Rate is how much is read in a second, at most, in bytes. Default: 20 MiB.
	Rate int64 `json:"rate,omitempty"`

	window tasks.Window
}

const (
	// defaultScrub is the time between two rounds that nobody has set.
	defaultScrub = 7 * 24 * time.Hour

	// defaultScrubRate is how much they read in a second, in bytes.
	defaultScrubRate = 20 << 20

	// minScrub is the least time between two rounds.
	minScrub = time.Minute
)

// provision checks the options.
func (s *Scrubbing) provision() (err error) {
	switch {
	case s.Every != 0 && time.Duration(s.Every) < minScrub:
		return fmt.Errorf("every is %v: want at least %v", time.Duration(s.Every), minScrub)
	case s.Rate < 0:
		return fmt.Errorf("rate is %d: want a number of bytes a second, or leave it out for its default", s.Rate)
	case s.Rate == 0:
		s.Rate = defaultScrubRate
	}
	s.window, err = option.ParseWindow(s.Window)
	return err
}

// task is the scrubbing as a Task.
func (s *Scrubbing) task(run func(context.Context, *tasks.Round) error) tasks.Task {
	t := tasks.Task{Name: adminapi.Scrub, Every: defaultScrub, Window: s.window, Run: run}
	switch {
	case s.Off:
		t.Every = 0
	case s.Every != 0:
		t.Every = time.Duration(s.Every)
	}
	return t
}

// scrub is the Run of the job.
func (w *workplace) scrub(ctx context.Context, r *tasks.Round) error {
	params, err := paramsOf(r)
	if err != nil {
		return err
	}
	from, err := scrub.ParsePlace(r.Cursor())
	if err != nil { // another release has written it
		w.plan.Load().log.Warn("the scrub begins anew", slog.Any("error", err))
	}
	if from == (scrub.Place{}) {
		w.damage.begin()
	}
	return scrub.Scrub(ctx, w.Store, from, func(p scrub.Place) { r.SetCursor(ctx, p.String()) }, scrub.Options{
		DryRun: params.DryRun, Wait: w.scrubPace.Wait, Stop: w.mayChange,
		Checked: func(bytes int64) {
			r.Add("checked_objects", 1)
			r.Add("checked_bytes", bytes)
			w.plan.Load().meters.scrubbed.Add(float64(bytes))
		},
		Found: func(f scrub.Finding) { w.foundDamage(ctx, r, f) },
	})
}

// foundDamage counts what a round has found to be wrong, and says so.
func (w *workplace) foundDamage(ctx context.Context, r *tasks.Round, f scrub.Finding) {
	w.damage.add(f)
	p := w.plan.Load()
	p.meters.faults.WithLabelValues(string(f.Fault)).Inc()
	r.Add(string(f.Fault), 1)
	level := slog.LevelError
	if f.Done == scrub.Repaired {
		level = slog.LevelWarn
		r.Add("repaired", 1)
	} else {
		r.Add("problems", 1)
	}
	attrs := []slog.Attr{
		slog.String("kind", string(f.Kind)), slog.String("repository", f.Repository), slog.String("name", f.Name),
		slog.String("fault", string(f.Fault)), slog.String("done", string(f.Done)), slog.Any("tags", f.Tags),
	}
	for name, value := range map[string]string{"from": f.From, "problem": f.Problem} {
		if value != "" {
			attrs = append(attrs, slog.String(name, value))
		}
	}
	p.log.LogAttrs(ctx, level, "scrub", attrs...)
}

// faults are all that a scrub may find.
var faults = []scrub.Fault{scrub.Damaged, scrub.Missing, scrub.Unreadable}

// scrubbing parses
//
//	scrub off
//	scrub {
//		every DURATION
//		window FROM TO
//		rate SIZE
//	}
func scrubbing(to **Scrubbing) option.Parser {
	return func(d *caddyfile.Dispenser) error {
		s := new(Scrubbing)
		*to = s
		if s.Off = d.CountRemainingArgs() > 0; s.Off {
			return option.Choice(new(string), "off")(d)
		}
		return option.Block(d, option.Set{
			"every":  option.Duration(&s.Every),
			"window": option.Window(&s.Window),
			"rate":   option.Size(&s.Rate),
		})
	}
}
