// Package lately keeps what others say: keys, settings, lists that change seldom.
package lately

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	fetchTime  = 10 * time.Second // a fetch may take so long
	retryPause = 10 * time.Second // after a fetch that failed
)

// A Value is fetched when it's needed first, and again when it's old. One that can't
// be fetched again stays. It is safe for concurrent use, and fetches once at a time.
type Value[T any] struct {
	options Options[T]
	turn    chan struct{} // holds one: who takes it fetches
	last    atomic.Pointer[Fetched[T]]
}

// Options say what's fetched, and how often.
type Options[T any] struct {
	Fetch func(context.Context) (T, error)
	Age   time.Duration // a value older than that is fetched again

	// Pause is how far two fetches are apart at least; after one that failed it is
	// ten seconds, if that's less.
	Pause time.Duration

	// Same reports whether two values are one, so that the version stays. Default:
	// none are.
	Same func(a, b T) bool
}

// Fetched is the outcome of the last fetch, with the value of the last that succeeded.
type Fetched[T any] struct {
	Value   T
	Version uint64 // changes with the value; 0 if there's none

	at    time.Time // when it came
	tried time.Time // when the last fetch ended
	err   error     // what that one failed with
}

// New returns a Value that isn't fetched yet.
func New[T any](o Options[T]) *Value[T] {
	v := &Value[T]{options: o, turn: make(chan struct{}, 1)}
	v.last.Store(&Fetched[T]{})
	return v
}

// Get returns a value, or why there's none. If there's an old one, only one of many
// callers waits for the new one.
func (v *Value[T]) Get(ctx context.Context) (*Fetched[T], error) {
	s := v.last.Load()
	if s.Version > 0 && time.Since(s.at) < v.options.Age || !v.mayFetch(s) {
		return s, s.missing()
	}
	if s.Version == 0 {
		next, err := v.next(ctx, s)
		if err != nil {
			return s, err
		}
		return next, next.missing()
	}
	select {
	case v.turn <- struct{}{}:
		defer func() { <-v.turn }()
		return v.run(ctx, s), nil
	default:
		return s, nil
	}
}

// Newer returns a value newer than s, or s itself if it's too early to ask again. It
// fails if the last fetch did, since nobody knows then.
func (v *Value[T]) Newer(ctx context.Context, s *Fetched[T]) (*Fetched[T], error) {
	if v.mayFetch(s) {
		next, err := v.next(ctx, s)
		if err != nil {
			return s, err
		}
		s = next
	}
	return s, s.err
}

// next waits for the fetch after s, which is its own or somebody else's.
func (v *Value[T]) next(ctx context.Context, s *Fetched[T]) (*Fetched[T], error) {
	select {
	case v.turn <- struct{}{}:
		defer func() { <-v.turn }()
		return v.run(ctx, s), nil
	case <-ctx.Done():
		return s, ctx.Err()
	}
}

// run fetches, unless somebody else has since s. The caller has the turn.
//
// Who asks may go away meanwhile: the others shall not learn of that.
func (v *Value[T]) run(ctx context.Context, s *Fetched[T]) *Fetched[T] {
	if last := v.last.Load(); last != s {
		return last
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime)
	defer cancel()
	value, err := v.options.Fetch(ctx)
	now := time.Now()
	next := &Fetched[T]{Value: s.Value, Version: s.Version, at: now, tried: now, err: err}
	switch same := v.options.Same; {
	case err != nil:
		next.at = s.at
	case s.Version == 0 || same == nil || !same(s.Value, value):
		next.Value, next.Version = value, s.Version+1
	}
	v.last.Store(next)
	return next
}

func (v *Value[T]) mayFetch(s *Fetched[T]) bool {
	pause := v.options.Pause
	if s.err != nil {
		pause = min(pause, retryPause)
	}
	return s.tried.IsZero() || time.Since(s.tried) >= pause
}

// missing is why there's no value, or nil if there's one.
func (s *Fetched[T]) missing() error {
	if s.Version > 0 {
		return nil
	}
	return s.err
}
