package ociregistry

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/caddy-oci/oci-registry/authz/authn/apikey"
	"github.com/caddy-oci/oci-registry/storage"
)

// chore is something that a registry does now and then for its keys, tokens and accounts. Each
// replica does it, and it may be cut short. It's no task of the Runner: those are a
// place's, are done by one replica and remember when; this takes seconds, belongs to a
// configuration, and is done where content is in memory, too.
type chore struct {
	name  string
	every time.Duration
	do    func(context.Context) error
}

const (
	// choreDelay is how long after the start chores are first done, and up to twice
	// that: replicas that start together shouldn't ask all at once.
	choreDelay = time.Minute

	choreTimeout = 10 * time.Minute
)

// chores are those of this configuration.
func (r *Registry) chores() []chore {
	var all []chore
	if r.keys != nil {
		all = append(all, chore{"looking after API keys", time.Hour, r.keys.Check})
	}
	if r.tokens != nil {
		all = append(all, chore{"forgetting revoked tokens", 24 * time.Hour, r.tokens.Prune})
	}
	if r.auth.pages != nil {
		all = append(all, chore{"forgetting accounts that are gone", 24 * time.Hour, r.auth.pages.Prune})
	}
	return all
}

// upkeep is a configuration's chores being done, while it's the one that serves.
type upkeep struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// startUpkeep does chores until they're stopped.
func startUpkeep(log *slog.Logger, chores []chore) *upkeep {
	ctx, cancel := context.WithCancel(context.Background())
	u := &upkeep{cancel: cancel}
	for _, c := range chores {
		u.done.Go(func() { c.repeat(ctx, log) })
	}
	return u
}

// stop ends all chores, and returns when they have ended. Further calls do nothing; so
// does one of none.
func (u *upkeep) stop() {
	if u != nil {
		u.cancel()
		u.done.Wait()
	}
}

func (c chore) repeat(ctx context.Context, log *slog.Logger) {
	due := time.NewTimer(choreDelay + rand.N(choreDelay)) //nolint:gosec // it needn't be a secret
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-due.C:
			c.once(ctx, log)
			due.Reset(c.every)
		}
	}
}

func (c chore) once(ctx context.Context, log *slog.Logger) {
	within, cancel := context.WithTimeout(ctx, choreTimeout)
	defer cancel()
	err := c.do(within)
	if err == nil || ctx.Err() != nil || errors.Is(err, storage.ErrStandby) { // then it's for who may write
		return
	}
	log.Warn(c.name, slog.Any("error", err))
}

// observeKey is told what has happened to an API key.
func (r *Registry) observeKey(ctx context.Context, e apikey.Event) {
	r.audit.observeKey(ctx, e)
	var warning string
	switch e.Kind {
	case apikey.Expiring:
		warning = "an API key expires soon: its owner should make another one in time"
	case apikey.Orphaned:
		warning = "an API key isn't accepted any more: its owner's account is gone"
	default:
		return
	}
	r.log.Warn(warning, slog.String("key", string(e.Key.ID)), slog.String("owner", e.Key.Owner),
		slog.String("provider", e.Key.Provider), slog.String("label", e.Key.Label), slog.Time("expires", e.Key.Expires))
}
