package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/caddy-oci/oci-registry/authz/authn/internal/lately"
	"github.com/caddy-oci/oci-registry/authz/keep"
)

const (
	endedKey = "sessions/ended"
	maxEnded = 1500            // sessions: a value of the Store has room for them
	endedAge = 5 * time.Second // after that every replica knows
)

// ended knows of sessions that ended before their time. Without a Store it knows of
// none.
type ended struct {
	store  keep.Store
	stored *lately.Value[endings]

	mu   sync.Mutex // guards here
	here endings    // those that ended at this replica, at once
}

// endings are the times, in Unix seconds, until which sessions would have gone on.
type endings map[string]int64

func newEnded(store keep.Store) *ended {
	e := &ended{store: store, here: endings{}}
	e.stored = lately.New(lately.Options[endings]{Age: endedAge, Pause: time.Second, Fetch: func(ctx context.Context) (endings, error) {
		stored, _, err := e.load(ctx)
		return stored, err
	}})
	return e
}

func (e *ended) has(ctx context.Context, id string) (bool, error) {
	if e.store == nil {
		return false, nil
	}
	e.mu.Lock()
	_, here := e.here[id]
	e.mu.Unlock()
	if here {
		return true, nil
	}
	stored, err := e.stored.Get(ctx)
	if err != nil {
		return false, err
	}
	_, ok := stored.Value[id]
	return ok, nil
}

// add makes a session one that has ended. Of very many those are forgotten first that
// would end soonest.
func (e *ended) add(ctx context.Context, id string, until time.Time) error {
	if e.store == nil {
		return nil
	}
	for range 10 { // others may be faster, but not for ever
		all, version, err := e.load(ctx)
		if err != nil {
			return err
		}
		all[id] = until.Unix()
		all.prune(time.Now())
		value, err := json.Marshal(all)
		if err != nil {
			return err
		}
		_, err = e.store.Save(ctx, endedKey, value, version)
		if err == nil {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.here[id] = until.Unix()
			e.here.prune(time.Now())
			return nil
		}
		if !errors.Is(err, keep.ErrChanged) {
			return fmt.Errorf("save which sessions have ended: %w", err)
		}
	}
	return errors.New("sessions end all the time")
}

func (e *ended) load(ctx context.Context) (endings, string, error) {
	value, version, err := e.store.Load(ctx, endedKey)
	if errors.Is(err, fs.ErrNotExist) {
		return endings{}, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("load which sessions have ended: %w", err)
	}
	all := endings{}
	if err := json.Unmarshal(value, &all); err != nil || all == nil {
		return nil, "", fmt.Errorf("%s isn't what was saved", endedKey)
	}
	return all, version, nil
}

func (e endings) prune(now time.Time) {
	maps.DeleteFunc(e, func(_ string, until int64) bool { return until <= now.Unix() })
	if len(e) <= maxEnded {
		return
	}
	soonest := slices.SortedFunc(maps.Keys(e), func(a, b string) int { return int(e[a] - e[b]) })
	for _, id := range soonest[:len(soonest)-maxEnded] {
		delete(e, id)
	}
}
