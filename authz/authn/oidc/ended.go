package oidc

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-oci/oci-registry/authz/authn/internal/lately"
	"github.com/caddy-oci/oci-registry/authz/keep"
)

const (
	endedKey = "sessions/ended"
	maxEnded = 1300            // entries: a value of the Store has room for them
	maxOwn   = 5               // sessions of one user, each by itself
	endedAge = 5 * time.Second // after that every replica knows
)

// ended knows of sessions that ended before their time. Without a Store it knows of
// none.
type ended struct {
	store    keep.Store
	lifetime time.Duration // of sessions
	stored   *lately.Value[endings]

	mu   sync.Mutex // guards here
	here endings    // those that ended at this replica, at once
}

// endings are sessions that have ended. Times are in Unix seconds.
type endings struct {
	// Sessions have the times when they began, by owner and ID.
	Sessions map[string]int64 `json:"sessions"`

	// Users have ended so many that it's said of all: those that began until then have
	// ended. So nobody who signs in and out has others' entries dropped.
	Users map[string]int64 `json:"users"`
}

func newEnded(store keep.Store, lifetime time.Duration) *ended {
	e := &ended{store: store, lifetime: lifetime, here: newEndings()}
	e.stored = lately.New(lately.Options[endings]{Age: endedAge, Pause: time.Second, Fetch: func(ctx context.Context) (endings, error) {
		stored, _, err := e.load(ctx)
		return stored, err
	}})
	return e
}

func newEndings() endings { return endings{map[string]int64{}, map[string]int64{}} }

func (e *ended) has(ctx context.Context, s session) (bool, error) {
	if e.store == nil {
		return false, nil
	}
	e.mu.Lock()
	here := e.here.has(s)
	e.mu.Unlock()
	if here {
		return true, nil
	}
	stored, err := e.stored.Get(ctx)
	if err != nil {
		return false, err
	}
	return stored.Value.has(s), nil
}

// add makes a session one that has ended. Of very many users those are forgotten first
// whose sessions would end soonest.
func (e *ended) add(ctx context.Context, s session) error {
	if e.store == nil {
		return nil
	}
	for range 10 { // others may be faster, but not for ever
		all, version, err := e.load(ctx)
		if err != nil {
			return err
		}
		all.add(s, e.lifetime)
		value, err := json.Marshal(all)
		if err != nil {
			return err
		}
		_, err = e.store.Save(ctx, endedKey, value, version)
		if err == nil {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.here.add(s, e.lifetime)
			return nil
		}
		if !errors.Is(err, keep.ErrChanged) {
			return fmt.Errorf("save which sessions have ended: %w", err)
		}
	}
	return errors.New("sessions end all the time")
}

func (e *ended) load(ctx context.Context) (endings, string, error) {
	all := newEndings()
	value, version, err := e.store.Load(ctx, endedKey)
	if errors.Is(err, fs.ErrNotExist) {
		return all, "", nil
	}
	if err != nil {
		return all, "", fmt.Errorf("load which sessions have ended: %w", err)
	}
	if err := json.Unmarshal(value, &all); err != nil || all.Sessions == nil || all.Users == nil {
		return all, "", fmt.Errorf("%s isn't what was saved", endedKey)
	}
	return all, version, nil
}

// owner stands for the user of a session.
func (s session) owner() string {
	sum := sha256.Sum256([]byte(s.Provider + "\x00" + s.User))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

func (e endings) has(s session) bool {
	owner := s.owner()
	_, ended := e.Sessions[owner+s.ID]
	until, all := e.Users[owner]
	return ended || all && s.Began <= until
}

func (e endings) add(s session, lifetime time.Duration) {
	owner := s.owner()
	e.Sessions[owner+s.ID] = s.Began
	var own []string
	for key := range e.Sessions {
		if strings.HasPrefix(key, owner) {
			own = append(own, key)
		}
	}
	if len(own) > maxOwn {
		for _, key := range own {
			e.Users[owner] = max(e.Users[owner], e.Sessions[key])
			delete(e.Sessions, key)
		}
	}
	e.prune(time.Now().Add(-lifetime).Unix())
}

// prune drops what is of sessions that began until then, which are over anyway, and the
// oldest of what's too much.
func (e endings) prune(over int64) {
	type entry struct {
		in    map[string]int64
		key   string
		began int64
	}
	var all []entry
	for _, in := range []map[string]int64{e.Sessions, e.Users} {
		maps.DeleteFunc(in, func(_ string, began int64) bool { return began <= over })
		for key, began := range in {
			all = append(all, entry{in, key, began})
		}
	}
	if len(all) <= maxEnded {
		return
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.began, b.began) })
	for _, old := range all[:len(all)-maxEnded] {
		delete(old.in, old.key)
	}
}
